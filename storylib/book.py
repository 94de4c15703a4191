"""Builds the book from executed notebooks: checks them, renders strictly, and checks that the result reads offline.

python -m storylib.book --executed _build/storyworld-quick/executed --output _build
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import yaml

from storylib.config import project_root, runs_dir
from storylib.reference import fill

# Loads itself, reads TeX, draws SVG (browsers block fonts of pages opened from a folder), says it to screen readers.
MATHJAX = ("startup.js", "core.js", "input/tex.js", "output/svg.js", "output/svg/fonts/tex.js", "a11y/assistive-mml.js")


class BookError(RuntimeError):
    """A book that cannot be built as it stands; the message lists every reason."""


def build_book(executed: Path, output: Path) -> Path:
    """Render book/ and the executed notebooks to ``output/html``; a failed build leaves the previous one there."""
    root = project_root()
    chapters = [executed / f"{page}.ipynb" for page in toc_pages(root) if page.startswith("notebooks/")]
    problems = [problem for chapter in chapters for problem in check_notebook(chapter)]
    if not (executed / "gallery.html").is_file():
        problems.append(f"{executed / 'gallery.html'} does not exist: make it first (python -m storylib.gallery)")
    if not (executed / "credits.md").is_file():
        problems.append(
            f"{executed / 'credits.md'} does not exist: python -m storylib.sources.acknowledgements makes it"
        )
    complain(problems, "The notebooks are not ready")
    output.mkdir(parents=True, exist_ok=True)
    # Always from nothing: after an incremental build a stale number survives, and a failing build passes when repeated.
    with tempfile.TemporaryDirectory(prefix=".book-", dir=output) as work:
        tree = assemble(root, chapters, executed / "figures", Path(work) / "source")
        shutil.copy(executed / "credits.md", tree)  # book/credits.md includes it
        html = render(root, tree, Path(work))
        add_records(chapters, html / "records")
        add_mathjax(html / "_static" / "mathjax")
        polish(html)
        shutil.copy(executed / "gallery.html", html)
        complain(check_html(html), "The pages are not fit to publish")
        stamp = {"stories": executed.parent.name, "chapters": {c.stem: sha256(c) for c in chapters}}
        (html / "book.json").write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
        published, old = output / "html", Path(work) / "old"
        if published.exists():
            published.rename(old)
        html.rename(published)
    return published / "index.html"


def toc_pages(root: Path) -> list[str]:
    """Every page that _toc.yml names, in order, without its ending."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = toc.get("parts", [{"chapters": toc.get("chapters", [])}])
    return [toc["root"]] + [chapter["file"] for part in parts for chapter in part["chapters"]]


def check_notebook(path: Path) -> list[str]:
    """Why an executed notebook must not be shown; Jupyter Book itself accepts one that failed half-way."""
    if not path.is_file():
        return [f"{path} does not exist: execute it first (make book, or python -m storylib.runner)"]
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    outputs = [out for cell in code for out in cell.outputs]
    problems = []
    if notebook.metadata.get("papermill", {}).get("exception") or any(o.output_type == "error" for o in outputs):
        problems.append(f"{path.name} failed when it was executed")
    skipped = [str(i + 1) for i, cell in enumerate(code) if cell.execution_count is None]
    if skipped:
        problems.append(f"{path.name} was not executed to the end: code cells {', '.join(skipped)} never ran")
    if not outputs:
        problems.append(f"{path.name} shows nothing: none of its cells has an output")
    return problems


def assemble(root: Path, chapters: Sequence[Path], figures: Path, tree: Path) -> Path:
    """A fresh source tree; every page has the path that it has in git, so that its edit and Colab links work."""
    shutil.copytree(root / "book", tree / "book", ignore=shutil.ignore_patterns("_static"))
    for page in sorted((tree / "book").rglob("*.md")):
        page.write_text(fill(page.read_text(encoding="utf-8"), root, figures.parents[1]), encoding="utf-8")
    shutil.copytree(root / "book" / "_static", tree / "_static")
    shutil.copy(root / "experiments.yml", tree)  # a page quotes it
    (tree / "notebooks").mkdir()
    for chapter in chapters:
        notebook = with_captions(chapter)
        notebook.cells.append(nbformat.v4.new_markdown_cell(colophon(notebook, chapter.name, repository(root))))
        nbformat.write(notebook, tree / "notebooks" / chapter.name)
    if figures.is_dir():
        shutil.copytree(figures, tree / "figures")
    return tree


def with_captions(path: Path) -> nbformat.NotebookNode:
    """An executed notebook whose figures have the description and the caption that ``plots.save`` sent with them."""
    notebook = nbformat.read(path, as_version=4)
    count = 0
    for cell in notebook.cells:
        for out in cell.get("outputs", []):
            told = out.get("metadata", {}).get("image/svg+xml", {})
            if told.get("alt"):
                count += 1
                name = told.get("name") or f"{path.stem}-{count}"  # pages refer to it: {numref}`figure-leakage`
                figure = {"name": f"figure-{name}", "caption": told.get("caption", "")}
                shown = {"image": {"alt": told["alt"]}} | ({"figure": figure} if figure["caption"] else {})
                cell.metadata["mystnb"] = shown | cell.metadata.get("mystnb", {})
    return notebook


RUN = re.compile(r"<th>([\w.-]+-[0-9a-f]{8})</th>")  # a run in the table that storylib.describe shows
RECORDS = ("run.json", "metrics.json", "metrics_summary.csv", "history.csv")


def colophon(notebook: nbformat.NotebookNode, name: str, url: str) -> str:
    """How a page was made, as its last lines: notebook, commit, parameters, seconds; and links to its run records."""
    run, made = notebook.metadata.get("papermill", {}), notebook.metadata.get("storylib", {})
    commit = made.get("commit", "unknown")
    known = commit != "unknown"
    source = f"[`notebooks/{name}`]({url}/blob/{commit if known else 'main'}/notebooks/{name})"
    parts = [f"Executed from {source}"]
    if known:
        parts.append(f"at commit [`{commit[:8]}`]({url}/commit/{commit})" + ", with changes since" * made["dirty"])
    if run.get("start_time"):
        parts.append(f"on {run['start_time'][:10]} in {run['duration']:.0f} seconds")
    if made:
        parts.append(f"on {made['machine']} ({made['device']}, Python {made['python']})")
    if run.get("parameters"):
        parts.append("with " + ", ".join(f"`{k} = {v!r}`" for k, v in run["parameters"].items()))
    heading = any("## How this page was made" in c.source for c in notebook.cells if c.cell_type == "markdown")
    runs = dict.fromkeys(n for cell in notebook.cells for out in cell.get("outputs", []) for n in runs_in(out))
    told = " Run records: " + ", ".join(f"<a href='../records/{name}/run.json'>{name}</a>" for name in runs)
    return "## How this page was made\n\n" * (not heading) + ", ".join(parts) + "." + f"{told}." * bool(runs)


def runs_in(output: nbformat.NotebookNode) -> list[str]:
    """Names of the runs whose records an output of a notebook shows, as far as the records are here."""
    names = RUN.findall(str(output.get("data", {}).get("text/html", "")))
    return [name for name in names if (runs_dir() / name / "run.json").is_file()]


def add_records(chapters: Sequence[Path], folder: Path) -> None:
    """Copies of the run records behind the chapters: numbers only, a few kilobytes each."""
    for chapter in chapters:
        for cell in nbformat.read(chapter, as_version=4).cells:
            for run in (run for out in cell.get("outputs", []) for run in runs_in(out)):
                (folder / run).mkdir(parents=True, exist_ok=True)
                for file in filter(Path.is_file, (runs_dir() / run / name for name in RECORDS)):
                    shutil.copy(file, folder / run)


def repository(root: Path) -> str:
    """Where the project lives, as ``_config.yml`` says."""
    return str(yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"])


def add_mathjax(folder: Path) -> None:
    """The parts that are needed of the 24 MB that the package brings; the web would be asked for them otherwise.

    After the build, because Jupyter Book makes every page load every script that lies in ``_static``.
    """
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise BookError("sphinx-mathjax-offline is not installed: pip install 'storylib[book]'")
    for part in MATHJAX:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(package.origin).parent / "static" / "mathjax" / part, folder / part)


def render(root: Path, tree: Path, work: Path) -> Path:
    """Run Jupyter Book with warnings as errors; the folder of its HTML."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(tree)]
    command += [
        "--path-output",
        str(work),
        "--config",
        str(root.resolve() / "_config.yml"),
        "--toc",
        str(root.resolve() / "_toc.yml"),
    ]
    command += ["--all", "-W", "-n", "--keep-going"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    warnings: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        line = re.sub(r"\x1b\[[0-9;]*m", "", line)
        print(line, end="", file=sys.stderr)
        if "WARNING" in line or "ERROR" in line:
            warnings.append(line.strip().replace(f"{tree.resolve()}/", ""))
    if process.wait():
        complain(warnings or ["see the output above"], "Jupyter Book found fault with the pages")
    return work / "_build" / "html"


# What the theme writes that a browser complains of, or that a screen reader stumbles over.
REPAIRS = (
    (r'<link rel="preload" as="font"[^>]*>', ""),  # blocked on pages that are opened from a folder
    (r"<script>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe\.js[^>]*></script>", ""),  # live code: not used
    (r"<script[^>]*fontawesome[^>]*all\.min\.js[^>]*></script>", ""),  # 1.5 MB for icons that the style sheet has too
    (r'data-default-mode=""', 'data-default-mode="auto"'),
    (r'localStorage\.getItem\("mode"\) \|\| ""', 'localStorage.getItem("mode") || "auto"'),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r' role="doc-biblioentry"', ""),
    (r'<figure class="', '<figure tabindex="0" class="'),  # on a phone these scroll, also by keyboard
    (r'<div class="(math |pst-scrollable-table-container)', r'<div tabindex="0" class="\1'),
)


def polish(html: Path) -> None:
    """Mend in every page what the theme cannot be told to do otherwise."""
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern, mended in REPAIRS:
            text = re.sub(pattern, mended, text, flags=re.DOTALL)
        if 'class="math' not in text:
            text = re.sub(r"<script[^>]*mathjax/startup\.js[^>]*></script>", "", text)
        page.write_text(text, encoding="utf-8")
    options = html / "_static" / "documentation_options.js"  # excerpts of what was found are read over the network only
    text = options.read_text(encoding="utf-8")
    options.write_text(text.replace("SEARCH_SUMMARY: true", 'SEARCH_SUMMARY: location.protocol !== "file:"'))
    for sheet in html.rglob("fontawesome/*/css/all.min.css"):
        sheet.write_text(inline_fonts(sheet))


def inline_fonts(sheet: Path) -> str:
    """The icons' style sheet with its fonts in it: browsers block font files of a page that is opened from a folder.

    The older names of the same fonts go, and so do the files for older browsers.
    """

    def inlined(url: re.Match[str]) -> str:
        data = base64.b64encode((sheet.parent / url[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{data})"

    text = re.sub(r"@font-face\{[^}]*font-family:(?!Font Awesome\\ 6)[^}]*\}", "", sheet.read_text(encoding="utf-8"))
    text = re.sub(r"url\(([^)]*?\.woff2)\)", inlined, text)
    return re.sub(r",\s*url\([^)]*\.ttf\)\s*format\([^)]*\)", "", text)


def check_html(html: Path) -> list[str]:
    """What the built pages must not hold: anything from the network, numbers that were never filled in, dead links."""
    problems = []
    loaded = {page.resolve(): Loads(page) for page in sorted(html.rglob("*.html"))}
    for path, loads in loaded.items():
        name, text = path.relative_to(html.resolve()), loads.text
        problems += [f"{name} loads {url} from the network" for url in loads.remote]
        problems += [f"{name} has a picture without a description: {source}" for source in loads.undescribed]
        for link in loads.links:
            file, _, anchor = link.partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            if not target.exists():
                problems.append(f"{name} links to {link}, which does not exist")
            elif anchor and target in loaded and unquote(anchor) not in loaded[target].anchors:
                problems.append(f"{name} links to {link}, a place that is not on that page")
        # A missing number stands as its own role or as a pending node; in code it is only talked about.
        prose = re.sub(r"<(pre|code|script)\b.*?</\1>", "", text, flags=re.DOTALL)
        mark = re.search(r"\{?glue:|pending_glue|system-message", prose)
        if mark:
            problems.append(f"{name} holds {mark[0]!r}: a number or reference was not filled in")
    for sheet in sorted(html.rglob("*.css")):
        for url in re.findall(
            r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")\s;]+)", sheet.read_text(encoding="utf-8")
        ):
            problems.append(f"{sheet.relative_to(html)} loads {url} from the network")
    return problems


class Loads(HTMLParser):
    """What a page would fetch from the network when it is opened, where its own links lead, and its pictures."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = {"top"}
        self.undescribed: list[str] = []
        self.text = page.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        urls = [values.get("src", ""), values.get("srcset", ""), values.get("poster", "")]
        if tag == "link" and not re.search("canonical|alternate|search|next|prev|index|author", values.get("rel", "")):
            urls.append(values.get("href", ""))
        self.remote += [url for url in urls if re.match(r"(https?:)?//", url.strip())]
        self.anchors |= {values[name] for name in ("id", "name") if values.get(name)}
        link = values.get("href", "") if tag == "a" else ""
        if link not in ("", "#") and not re.match(r"[a-z]+:|//", link):
            self.links.append(link.split("?")[0] if "?" in link else link)
        words = re.sub(r"\W", "", values.get("alt", ""))
        if tag == "img" and (not words or values["alt"].endswith((".svg", ".png", ".jpg", ".jpeg"))):
            self.undescribed.append(values.get("src", "")[:80])


def complain(problems: Sequence[str], title: str) -> None:
    """Raise with every problem at once, or do nothing when there is none."""
    if problems:
        raise BookError("\n".join([f"{title}:", *(f"  - {problem}" for problem in problems)]))


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.book", description=__doc__)
    parser.add_argument("--executed", type=Path, required=True, help="folder with notebooks/ and figures/")
    parser.add_argument("--output", type=Path, required=True, help="folder that html/ is put in")
    options = parser.parse_args(arguments)
    try:
        index = build_book(options.executed.resolve(), options.output.resolve())
    except BookError as error:
        print(f"\n{error}\nNothing was published; an earlier book is as it was.", file=sys.stderr)
        return 1
    print(f"The book is ready: open {index}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
