"""Build the book from executed notebooks: check them, render strictly, and check that the pages read offline."""

from __future__ import annotations

import base64
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from storylib.config import project_root
from storylib.report.notebooks import NO_GRAMMARS
from storylib.report.pages import PACKAGE, fill

# Loader, TeX input, SVG output (browsers block the fonts of pages opened from a folder), text for screen readers.
MATHJAX = ("startup.js", "core.js", "input/tex.js", "output/svg.js", "output/svg/fonts/tex.js", "a11y/assistive-mml.js")
REMOTE = re.compile(r"\s*(https?:)?//")
LINKS = {"canonical", "alternate", "search", "next", "prev", "index", "author"}  # <link> that a browser does not load


class BookError(RuntimeError):
    """A book that cannot be built as it is; the message lists every reason."""


def build_book(executed: Path, output: Path) -> Path:
    """Render book/ and the executed notebooks to ``output/html``. Raises BookError; an earlier book then stays.

    executed: a folder with notebooks/, figures/, gallery.html and credits.md.
    """
    root = project_root()
    chapters = [executed / f"{page}.ipynb" for page in toc_pages(root) if page.startswith("notebooks/")]
    problems = [problem for chapter in chapters for problem in check_notebook(chapter)]
    complain(problems, "The notebooks are not ready")
    output.mkdir(parents=True, exist_ok=True)
    published = output / "html"
    # Always from an empty folder: an incremental build keeps stale numbers, and a failing one passes when repeated.
    with tempfile.TemporaryDirectory(prefix=".book-", dir=output) as work:
        tree = assemble(root, chapters, executed / "figures", Path(work) / "source")
        shutil.copy(executed / "credits.md", tree)  # book/credits.md includes it
        html = render(root, tree, Path(work))
        add_mathjax(html / "_static" / "mathjax")
        polish(html, tree)
        shutil.copy(executed / "gallery.html", html)
        complain(check_html(html), "The pages are not fit to publish")
        (html / "book.json").write_text(json.dumps({"stories": executed.parent.name}), encoding="utf-8")
        if published.exists():
            published.rename(Path(work) / "old")
        html.rename(published)
    return published / "index.html"


def toc_pages(root: Path) -> list[str]:
    """Every page of _toc.yml, in order, without its suffix."""
    toc = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    parts = toc.get("parts", [toc])
    return [toc["root"]] + [chapter["file"] for part in parts for chapter in part["chapters"]]


def check_notebook(path: Path) -> list[str]:
    """Why an executed notebook must not be shown; Jupyter Book itself accepts one that failed half-way."""
    if not path.is_file():
        return [f"{path} does not exist: execute it first (`make book` or `storylib notebook`)"]
    if "storylib" not in json.loads(path.read_text(encoding="utf-8"))["metadata"]:  # added when it ran to the end
        return [f"{path.name} was not executed to the end: execute it with `storylib notebook`"]
    return []


def assemble(root: Path, chapters: Sequence[Path], figures: Path, tree: Path) -> Path:
    """A fresh source tree. Every page has the path that it has in git, for its edit and Colab links."""
    shutil.copytree(root / "book", tree / "book", ignore=shutil.ignore_patterns("_static"))
    for page in sorted((tree / "book").rglob("*.md")):
        page.write_text(fill(page.read_text(encoding="utf-8"), root), encoding="utf-8")
    shutil.copytree(root / "book" / "_static", tree / "_static")
    shutil.copy(root / "experiments.yml", tree)  # pages quote it, and functions
    (tree / "storylib").symlink_to(PACKAGE)
    address = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
    (tree / "notebooks").mkdir()
    for chapter in chapters:
        notebook = json.loads(chapter.read_text(encoding="utf-8"))
        prepare(notebook)
        text = colophon(notebook, chapter.name, address)
        notebook["cells"].append({"cell_type": "markdown", "id": "colophon", "metadata": {}, "source": text})
        (tree / "notebooks" / chapter.name).write_text(json.dumps(notebook), encoding="utf-8")
    if figures.is_dir():
        shutil.copytree(figures, tree / "figures")
    return tree


def prepare(notebook: dict[str, Any]) -> None:
    """Show the parameters once, as they were set, and each figure with the description and caption of ``save``."""
    for cell in notebook["cells"]:
        if "injected-parameters" in cell["metadata"].get("tags", []):
            cell["metadata"]["tags"] = ["remove-cell"]
        elif "parameters" in cell["metadata"].get("tags", []):
            for name, value in notebook["metadata"]["papermill"]["parameters"].items():
                line = re.compile(rf"^{name} = .*?(?=  #)", re.MULTILINE)
                cell["source"] = line.sub(f"{name} = {value!r}".replace("\\", r"\\"), "".join(cell["source"]))
        for output in cell.get("outputs", []):
            facts = output.get("metadata", {}).get("image/svg+xml", {})
            if facts.get("alt"):  # pages refer to a figure by name: {numref}`figure-ablation`
                figure = {"name": f"figure-{facts['name']}", "caption": facts["caption"]}
                cell["metadata"]["mystnb"] = {"image": {"alt": facts["alt"]}, "figure": figure}


def colophon(notebook: dict[str, Any], name: str, url: str) -> str:
    """How a page was made, as its last lines: notebook, commit, day, seconds, machine."""
    execution, origin = notebook["metadata"]["papermill"], notebook["metadata"]["storylib"]
    commit = origin["commit"]
    branch = commit if commit != "unknown" else "main"
    text = f"Executed from [`notebooks/{name}`]({url}/blob/{branch}/notebooks/{name})"
    if commit != "unknown":
        text += f" at commit [`{commit[:8]}`]({url}/commit/{commit}){', with uncommitted changes' * origin['dirty']}"
    text += f", on {execution['start_time'][:10]} in {execution['duration']:.0f} seconds, on {origin['machine']}"
    text += f" (Python {origin['python']})."
    heading = "## How this page was made"
    return text if heading in json.dumps(notebook) else f"{heading}\n\n{text}"


def add_mathjax(folder: Path) -> None:
    """Copy the parts in use. This is after the build, because Jupyter Book makes a page load all scripts it finds."""
    package = Path(str(importlib.resources.files("sphinx-mathjax-offline"))) / "static" / "mathjax"
    for part in MATHJAX:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(package / part, folder / part)


def render(root: Path, tree: Path, work: Path) -> Path:
    """Run Jupyter Book with warnings as errors and return the folder of its HTML."""
    command = [sys.executable, "-c", f"{NO_GRAMMARS}; from jupyter_book.cli.main import main; main()", "build"]
    command += [str(tree), "--path-output", str(work), "--config", str(root.resolve() / "_config.yml")]
    command += ["--toc", str(root.resolve() / "_toc.yml"), "--all", "-W", "-n", "--keep-going"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = done.stdout.replace(f"{tree.resolve()}/", "")
    print(output, file=sys.stderr)
    if done.returncode:
        warnings = [line.strip() for line in output.splitlines() if "WARNING" in line or "ERROR" in line]
        complain(warnings or ["see the output above"], "Jupyter Book rejected the pages")
    return work / "_build" / "html"


# What the theme writes that a browser or a screen reader cannot handle.
REPAIRS = (
    (r'<link rel="preload" as="font"[^>]*>', ""),  # blocked on pages that are opened from a folder
    (r"<script>const THEBE_JS_URL.*?</script>|<script[^>]*sphinx-thebe\.js[^>]*></script>", ""),  # live code: not used
    (r"<script[^>]*fontawesome[^>]*all\.min\.js[^>]*></script>", ""),  # 1.5 MB for icons that the style sheet has too
    (r'data-default-mode=""', 'data-default-mode="auto"'),
    (r'localStorage\.getItem\("mode"\) \|\| ""', 'localStorage.getItem("mode") || "auto"'),
    (r'<div role="list" class="citation-list">', '<div class="citation-list">'),
    (r' role="doc-biblioentry"', ""),
    (r'(<div id="jb-print-docs-body"[^>]*>\s*)<h1>(.*?)</h1>', r'\1<p class="h1">\2</p>'),  # a second title, printed
    (r'<figure class="', '<figure tabindex="0" class="'),  # on a phone these scroll, also by keyboard
    (r'<div class="(math |pst-scrollable-table-container)', r'<div tabindex="0" class="\1'),
)


IMAGE = re.compile(r'<img [^>]*src="\.\./_images/([^"]*)"[^>]*>')
MINUS = re.compile(r"(<(pre|code|script|style)\b.*?</\2>|<[^>]*>)|(?<![\w.)-])-(?=\.?\d)", re.DOTALL)
TABLE = re.compile(r"<table\b.*?</table>", re.DOTALL)
WIDE = 4  # columns; on a phone, each row of a table with so many is a block of lines


def polish(html: Path, tree: Path) -> None:
    """Apply to every page the repairs that the theme has no setting for, and let figures keep a readable size.

    tree: the sources, with the figures' narrow forms.
    """
    opening = {}
    for path in (html / "_images").glob("*.svg"):
        if drawn := re.search(r'width="([\d.]+)pt".*?<dc:title>(.*?)</dc:title>', path.read_text(), re.DOTALL):
            opening[path.name] = (
                f'<picture style="--least: {float(drawn[1]):.0f}px">'  # a pixel per point, for its text
            )
            for narrow in tree.rglob(f"{drawn[2]}-phone.svg"):
                shutil.copy(narrow, html / "_images")
                opening[path.name] += f'<source media="(max-width: 576px)" srcset="../_images/{narrow.name}">'
    for page in html.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        for pattern, repaired in REPAIRS:
            text = re.sub(pattern, repaired, text, flags=re.DOTALL)
        text = IMAGE.sub(lambda image: f"{opening.get(image[1], '<picture>')}{image[0]}</picture>", text)
        text = MINUS.sub(lambda found: found[1] or "\N{MINUS SIGN}", text)
        text = TABLE.sub(lambda table: label_cells(table[0]), text)
        if 'class="math' not in text:
            text = re.sub(r"<script[^>]*mathjax/startup\.js[^>]*></script>", "", text)
        page.write_text(text, encoding="utf-8")
    options = html / "_static" / "documentation_options.js"  # excerpts of search results can be read over HTTP only
    text = options.read_text(encoding="utf-8")
    options.write_text(text.replace("SEARCH_SUMMARY: true", 'SEARCH_SUMMARY: location.protocol !== "file:"'))
    for sheet in html.rglob("fontawesome/*/css/all.min.css"):
        sheet.write_text(inline_fonts(sheet))


def label_cells(table: str) -> str:
    """A wide table whose cells name their columns, which a phone shows beside them."""
    from bs4 import BeautifulSoup  # the theme of the book brings it

    soup: Any = BeautifulSoup(table, "html.parser")
    first, *rows = soup.find_all("tr")
    names = [head.get_text(" ", strip=True) for head in first.find_all("th")]
    if len(names) < WIDE:
        return table
    for row in rows:
        cells = row.find_all(["th", "td"])
        for cell, name in zip(reversed(cells), reversed(names), strict=False):  # a cell of several rows is on the left
            if name and cell.name == "td":
                cell["data-column"] = name
    return str(soup)


def inline_fonts(sheet: Path) -> str:
    """The icons' style sheet with its fonts inside: browsers block font files of a page opened from a folder."""
    text = sheet.read_text(encoding="utf-8")
    text = re.sub(r"@font-face\{[^}]*font-family:(?!Font Awesome\\ 6)[^}]*\}", "", text)  # older names
    text = re.sub(r",\s*url\([^)]*\.ttf\)\s*format\([^)]*\)", "", text)  # for older browsers
    for name in set(re.findall(r"url\(([^)]*?\.woff2)\)", text)):
        data = base64.b64encode((sheet.parent / name).read_bytes()).decode()
        text = text.replace(f"url({name})", f"url(data:font/woff2;base64,{data})")
    return text


def check_html(html: Path) -> list[str]:
    """What built pages must not contain: anything from the network, numbers that were not filled in."""
    from bs4 import BeautifulSoup  # the theme of the book brings it

    problems = []
    for path in sorted(html.rglob("*.html")):
        page: Any = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        name = path.relative_to(html)
        loading = [tag["href"] for tag in page.find_all("link", href=True) if not LINKS & set(tag.get("rel", []))]
        loading += [tag[key] for key in ("src", "srcset", "poster") for tag in page.find_all(attrs={key: True})]
        remote = [url for url in loading if REMOTE.match(url)]
        problems += [f"{name} loads {url} from the network" for url in remote]
        for code in page.find_all(["pre", "code", "script"]):  # these may mention what follows
            code.decompose()
        mark = re.search(r"\{?glue:|pending_glue|system-message|\$\{?[a-z]{2,}", str(page))
        if mark:
            problems.append(f"{name} contains {mark[0]!r}: a number or reference was not filled in")
    for sheet in sorted(html.rglob("*.css")):
        text = sheet.read_text(encoding="utf-8")
        for url in re.findall(r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")\s;]+)", text):
            problems.append(f"{sheet.relative_to(html)} loads {url} from the network")
    return problems


def complain(problems: Sequence[str], title: str) -> None:
    """Raise BookError with every problem, if there is one."""
    if problems:
        raise BookError("\n".join([f"{title}:", *(f"  - {problem}" for problem in problems)]))
