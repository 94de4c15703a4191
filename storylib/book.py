"""Builds the book from executed notebooks: checks them, renders strictly, and checks that the result reads offline.

python -m storylib.book --executed _build/storyworld-quick/executed --output _build
"""

from __future__ import annotations

import argparse
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

import nbformat
import yaml

from storylib.config import project_root


class BookError(RuntimeError):
    """A book that cannot be built as it stands; the message lists every reason."""


def build_book(executed: Path, output: Path) -> Path:
    """Render book/ and the executed notebooks to ``output/html``; a failed build leaves the previous one there."""
    root = project_root()
    chapters = [executed / f"{page}.ipynb" for page in toc_pages(root) if page.startswith("notebooks/")]
    problems = [problem for chapter in chapters for problem in check_notebook(chapter)]
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
    shutil.copytree(root / "book" / "_static", tree / "_static")
    shutil.copy(root / "experiments.yml", tree)  # a page quotes it
    (tree / "notebooks").mkdir()
    for chapter in chapters:
        shutil.copy(chapter, tree / "notebooks")
    if figures.is_dir():
        shutil.copytree(figures, tree / "figures")
    # One self-contained file of the 24 MB that the package brings; the web would be asked for it otherwise.
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise BookError("sphinx-mathjax-offline is not installed: pip install 'storylib[book]'")
    shutil.copy(Path(package.origin).parent / "static" / "mathjax" / "tex-svg.js", tree / "_static")
    return tree


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


def check_html(html: Path) -> list[str]:
    """What the built pages must not hold: anything loaded from the network, and numbers that were never filled in."""
    problems = []
    for page in sorted(html.rglob("*.html")):
        text = page.read_text(encoding="utf-8")
        loads = Loads()
        loads.feed(text)
        problems += [f"{page.relative_to(html)} loads {url} from the network" for url in loads.remote]
        # A missing number stands as its own role or as a pending node; in code it is only talked about.
        prose = re.sub(r"<(pre|code|script)\b.*?</\1>", "", text, flags=re.DOTALL)
        mark = re.search(r"\{?glue:|pending_glue|system-message", prose)
        if mark:
            problems.append(f"{page.relative_to(html)} holds {mark[0]!r}: a number or reference was not filled in")
    for sheet in sorted(html.rglob("*.css")):
        for url in re.findall(
            r"(?:@import|url\()\s*['\"]?((?:https?:)?//[^'\")\s;]+)", sheet.read_text(encoding="utf-8")
        ):
            problems.append(f"{sheet.relative_to(html)} loads {url} from the network")
    return problems


class Loads(HTMLParser):
    """Collects what a page would fetch from the network when it is opened; links to follow are no such thing."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        urls = [values.get("src", ""), values.get("srcset", ""), values.get("poster", "")]
        if tag == "link" and not re.search("canonical|alternate|search|next|prev|index|author", values.get("rel", "")):
            urls.append(values.get("href", ""))
        self.remote += [url for url in urls if re.match(r"(https?:)?//", url.strip())]


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
