"""The book builds strictly from its real pages, refuses unfit notebooks, and loads nothing from the network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from storylib.book import BookError, build_book, check_html, check_notebook, main, toc_pages
from storylib.sources.acknowledgements import acknowledge

ROOT = Path(__file__).parents[1]
GLUE = re.compile(r"\{glue:text\}`/(notebooks/\w+)\.ipynb::(\w+):([^`]*)`")
FIGURE = re.compile(r"\{figure\} /(figures/\S+)")


def cell(source="1", outputs=(), count=1):
    return new_code_cell(source, outputs=list(outputs), execution_count=count)


def glued(name, value):
    data = {"text/plain": repr(value)}
    return new_output("display_data", data, metadata={"scrapbook": {"name": name, "mime_prefix": ""}})


@pytest.fixture
def executed(tmp_path):
    """Executed notebooks and figures that provide just what the real pages ask for."""
    pages = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "book").rglob("*.md"))
    folder = tmp_path / "world-quick" / "executed"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "credits.md").write_text(acknowledge("storyworld"))
    for name in set(FIGURE.findall(pages)):
        (folder / name).write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" width="9" height="9"/>')
    values = {"d": 3, "s": "a word", "f": 0.5}
    wanted = {(page, name): values[form[-1]] for page, name, form in GLUE.findall(pages)}
    for page in toc_pages(ROOT):
        if page.startswith("notebooks/"):
            numbers = [glued(name, value) for (where, name), value in wanted.items() if where == page]
            seen = new_output("stream", text="seen")
            notebook = new_notebook(cells=[new_markdown_cell(f"# {page}"), cell(outputs=[seen, *numbers])])
            notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
            nbformat.write(notebook, folder / f"{page}.ipynb")
    return folder


def test_the_real_pages_build_and_a_failed_build_leaves_them(executed, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--executed", str(executed), "--output", str(out)]) == 0
    assert "open " + str(out / "html" / "index.html") in capsys.readouterr().err
    html = out / "html"
    for page in toc_pages(ROOT):
        assert (html / f"{page}.html").is_file()
    method = (html / "book" / "method.html").read_text()
    assert 'src="../_static/tex-svg.js' in method and (html / "_static" / "tex-svg.js").stat().st_size > 1e6
    assert '<svg id="architecture"' in method
    assert "free for any use (CC0 1.0)" in (html / "book" / "credits.html").read_text()
    notebook = (html / "notebooks" / "02_train.html").read_text()
    assert re.search(r"colab\.research\.google\.com/github/[^\"]*/notebooks/02_train\.ipynb", notebook)
    assert [p.name for p in out.iterdir()] == ["html"]

    # a number that no notebook provides fails the build, names it, and the book from before stays
    before = {p: p.stat().st_mtime_ns for p in html.rglob("*")}
    path = executed / "notebooks" / "04_ablation.ipynb"
    broken = nbformat.read(path, as_version=4)
    broken.cells[-1].outputs = [o for o in broken.cells[-1].outputs if "answer" not in str(o.get("metadata"))]
    nbformat.write(broken, path)
    assert main(["--executed", str(executed), "--output", str(out)]) == 1
    assert re.search(r"index\.md.*'answer'", capsys.readouterr().err)
    assert {p: p.stat().st_mtime_ns for p in html.rglob("*")} == before
    assert [p.name for p in out.iterdir()] == ["html"]


@pytest.mark.parametrize(
    ("notebook", "says"),
    [
        (
            new_notebook(cells=[cell(outputs=[new_output("error", ename="E", evalue="")])]),
            "failed when it was executed",
        ),
        (new_notebook(cells=[cell()], metadata={"papermill": {"exception": True}}), "failed when it was executed"),
        (
            new_notebook(cells=[cell(outputs=[new_output("stream", text="a")]), cell(count=None)]),
            "code cells 2 never ran",
        ),
        (new_notebook(cells=[cell()]), "shows nothing"),
    ],
)
def test_an_unfit_notebook_is_refused(notebook, says, tmp_path):
    nbformat.write(notebook, tmp_path / "a.ipynb")
    assert says in " ".join(check_notebook(tmp_path / "a.ipynb"))


def test_every_missing_notebook_is_listed_at_once(tmp_path):
    with pytest.raises(BookError) as error:
        build_book(tmp_path, tmp_path / "out")
    assert str(error.value).count(".ipynb does not exist") == len([p for p in toc_pages(ROOT) if "notebooks/" in p])
    assert "credits.md does not exist: python -m storylib.sources.acknowledgements makes it" in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://x.org/a.js"></script>',
        '<link rel="stylesheet" href="//x.org/a.css">',
        '<img src="http://x.org/a.png">',
        '<img srcset="https://x.org/a.png 2x">',
        '<iframe src="https://x.org"></iframe>',
        "<p>a {glue:text}`b` c</p>",
        '<div class="system-message">x</div>',
    ],
)
def test_a_page_that_needs_the_network_or_lacks_a_number_is_refused(text, tmp_path):
    (tmp_path / "a.html").write_text(text)
    assert len(check_html(tmp_path)) == 1


def test_styles_are_looked_through_and_links_are_no_fault(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://x.org">x</a><link rel="canonical" href="https://x.org"><img src="_images/a.svg">'
        '<img src="data:image/svg+xml;base64,AAAA"><pre>{glue:text}`a`</pre><script src="_static/a.js"></script>'
    )
    assert check_html(tmp_path) == []
    (tmp_path / "a.css").write_text("@font-face { src: url('https://x.org/a.woff2') } /* https://x.org */")
    assert "a.woff2" in check_html(tmp_path)[0]


def test_the_drawings_follow_the_text_colour_and_say_what_they_show():
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
