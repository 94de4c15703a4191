"""The book builds strictly, refuses unfit notebooks, and loads nothing from the network.

The real pages are built in test_end_to_end.py. Here the book has one page and one notebook.
"""

from __future__ import annotations

import re
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from storylib.config import project_root
from storylib.report.book import MATHJAX, BookError, build_book, check_html, check_notebook, toc_pages

ROOT = project_root()
SVG = """<svg xmlns="http://www.w3.org/2000/svg" xmlns:dc="http://purl.org/dc/elements/1.1/" viewBox="0 0 400 9"
 width="400pt" height="9pt"><metadata><dc:title>bars</dc:title></metadata></svg>"""
PAGE = """# Page

{glue:text}`/notebooks/a.ipynb::answer:.1f` is shown in {numref}`figure-bars`. $x = 1$

<!-- generated: ideas none -->
"""


def cell(source="1", outputs=(), count=1):
    return new_code_cell(source, outputs=list(outputs), execution_count=count)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of one page and one notebook, and the folder of what was executed."""
    root, executed = tmp_path / "root", tmp_path / "world-quick" / "executed"
    (root / "book").mkdir(parents=True)
    (root / "book" / "index.md").write_text(PAGE)
    shutil.copytree(ROOT / "book" / "_static", root / "book" / "_static")
    (root / "book" / "references.bib").touch()
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/index\nchapters:\n  - file: notebooks/a\n")
    for name in ("_config.yml", "experiments.yml"):
        shutil.copy(ROOT / name, root)
    (executed / "notebooks").mkdir(parents=True)
    (executed / "figures").mkdir()
    (executed / "figures" / "bars-phone.svg").write_text("narrow")
    (executed / "gallery.html").write_text("<h1>gallery</h1>")
    (executed / "credits.md").write_text("nobody")
    facts = {"image/svg+xml": {"alt": 'Bars: "a" < b', "caption": "What to *see*.", "name": "bars"}}
    figure = new_output("display_data", {"image/svg+xml": SVG}, metadata=facts)
    answer = {"scrapbook": {"name": "answer", "mime_prefix": ""}}
    number = new_output("display_data", {"text/plain": "0.5"}, metadata=answer)
    parameters = cell('seed = 0  # of the run\nname = "a"  # of it')
    injected = cell("# Parameters\nseed = 3")
    parameters.metadata["tags"], injected.metadata["tags"] = ["parameters"], ["injected-parameters"]
    cells = [new_markdown_cell("# A"), parameters, injected, cell(outputs=[figure]), cell(outputs=[number])]
    notebook = new_notebook(cells=cells)
    notebook.metadata["papermill"] = {"start_time": "2026-11-26T10", "duration": 9.6, "parameters": {"seed": 3}}
    notebook.metadata["storylib"] = {"commit": "unknown", "dirty": False, "machine": "Linux", "python": "3.11"}
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    nbformat.write(notebook, executed / "notebooks" / "a.ipynb")
    monkeypatch.setenv("STORYLIB_HOME", str(root))
    return executed


def test_a_book_is_built_and_a_failed_build_leaves_it(project, tmp_path):
    out = tmp_path / "out"
    assert build_book(project, out) == out / "html" / "index.html"
    html = out / "html"
    page = (html / "book" / "index.html").read_text()
    assert "0.5 is shown" in re.sub(r"<[^>]*>", "", page) and "no published record" in page
    assert page.count('src="../_static/mathjax/startup.js') == 1
    assert all((html / "_static" / "mathjax" / part).stat().st_size > 1000 for part in MATHJAX)
    notebook = (html / "notebooks" / "a.html").read_text()
    assert "mathjax/startup.js" not in notebook  # it has no equation
    assert re.search(r"colab\.research\.google\.com/github/[^\"]*/notebooks/a\.ipynb", notebook)
    assert 'alt="Bars: &quot;a&quot; &lt; b"' in notebook
    assert re.search(r'caption-number">Fig. \d+ </span>.*?What to <em>see</em>', notebook, flags=re.DOTALL)
    source = (
        '<picture style="--least: 400px"><source media="(max-width: 576px)" srcset="../_images/bars-phone.svg"><img'
    )
    assert source in notebook and (html / "_images" / "bars-phone.svg").read_text() == "narrow"
    shown = re.sub(r"<[^>]*>", "", notebook)
    assert 'seed = 3  # of the run\nname = "a"  # of it' in shown and "# Parameters" not in shown
    assert notebook.count("<h1") == page.count("<h1") == 1
    assert "Executed from" in notebook and "/blob/main/notebooks/a.ipynb" in notebook
    assert "on 2026-11-26 in 10 seconds" in notebook
    assert (html / "gallery.html").read_text() == "<h1>gallery</h1>"

    # a number that no notebook provides fails the build and is named; the earlier book stays
    before = {path: path.stat().st_mtime_ns for path in html.rglob("*")}
    path = project / "notebooks" / "a.ipynb"
    broken = nbformat.read(path, as_version=4)
    broken.cells[-1].outputs[0].metadata["scrapbook"]["name"] = "question"
    nbformat.write(broken, path)
    with pytest.raises(BookError, match=r"index\.md.*'answer'"):
        build_book(project, out)
    assert {path: path.stat().st_mtime_ns for path in html.rglob("*")} == before
    assert [path.name for path in out.iterdir()] == ["html"]


def test_a_notebook_that_did_not_run_to_the_end_is_refused(tmp_path):
    failed = new_notebook(cells=[cell(outputs=[new_output("error", ename="E", evalue="")]), cell(count=None)])
    nbformat.write(failed, tmp_path / "a.ipynb")
    assert "a.ipynb was not executed to the end" in " ".join(check_notebook(tmp_path / "a.ipynb"))


def test_every_missing_notebook_is_listed_at_once(tmp_path):
    with pytest.raises(BookError) as error:
        build_book(tmp_path, tmp_path / "out")
    assert str(error.value).count(".ipynb does not exist") == len([p for p in toc_pages(ROOT) if "notebooks/" in p])


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://x.org/a.js"></script>',
        '<link rel="stylesheet" href="//x.org/a.css">',
        '<img alt="a" src="http://x.org/a.png">',
        '<img alt="a" srcset="https://x.org/a.png 2x">',
        '<iframe src="https://x.org"></iframe>',
        "<p>a {glue:text}`b` c</p>",
        '<div class="system-message">x</div>',
        "<p>retrieved: $storyworld, frame 2</p>",
        "<p>${title}</p>",
    ],
)
def test_a_page_that_is_not_fit_to_publish_is_refused(text, tmp_path):
    (tmp_path / "a.html").write_text(text)
    assert len(check_html(tmp_path)) == 1


def test_style_sheets_are_checked_and_links_are_no_fault(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://x.org">x</a><link rel="canonical" href="https://x.org"><img alt="a" src="_images/a.svg">'
        '<a href="#b">x</a><a href="a.html?x=1#b">x</a><a href="a.css" name="b">x</a><a href="mailto:a@x.org">x</a>'
        '<img alt="b" src="data:image/png;base64,AA"><pre>{glue:text}`a`</pre><script src="_static/a.js"></script>'
    )
    (tmp_path / "a.css").touch()
    assert check_html(tmp_path) == []
    (tmp_path / "a.css").write_text("@font-face { src: url('https://x.org/a.woff2') } /* https://x.org */")
    assert "a.woff2" in check_html(tmp_path)[0]


def test_the_drawings_follow_the_text_colour_and_are_described():
    for name in ("architecture", "pipeline"):  # drawn by hand; the others are figures of a run
        drawing = ROOT / "book" / "images" / f"{name}.svg"
        text = drawing.read_text()
        assert "currentColor" in text and "<title" in text and "<desc" in text
        assert not re.search(r"fill: ?(#000|#fff|black|white)", text)


def test_every_page_in_the_folder_is_in_the_table_of_contents():
    pages = {f"book/{p.stem}" for p in (ROOT / "book").glob("*.md")} | {
        f"notebooks/{p.stem}" for p in ROOT.glob("notebooks/*.ipynb")
    }
    assert pages <= set(toc_pages(ROOT))
