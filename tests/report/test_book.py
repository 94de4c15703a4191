"""The book builds strictly from its real pages, refuses unfit notebooks, and loads nothing from the network."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from storylib.report.acknowledgements import acknowledge
from storylib.report.book import MATHJAX, BookError, build_book, check_html, check_notebook, main, toc_pages
from storylib.report.pages import fill

ROOT = Path(__file__).parents[1]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9" width="9" height="9"/>'
GLUE = re.compile(r"\{glue:text\}`/(notebooks/\w+)\.ipynb::(\w+):([^`]*)`")
NAMED = re.compile(r"\{numref\}`figure-([\w-]+)`")
FIGURE = re.compile(r"\{figure\} /(figures/\S+)")


def cell(source="1", outputs=(), count=1):
    return new_code_cell(source, outputs=list(outputs), execution_count=count)


def drawn(alt, caption, name=""):
    told = {"image/svg+xml": {"alt": alt, "caption": caption, "name": name}}
    return new_output("display_data", {"image/svg+xml": SVG}, metadata=told)


def glued(name, value):
    data = {"text/plain": repr(value)}
    return new_output("display_data", data, metadata={"scrapbook": {"name": name, "mime_prefix": ""}})


@pytest.fixture
def executed(tmp_path):
    """Executed notebooks and figures that provide just what the real pages ask for."""
    folder = tmp_path / "world-quick" / "executed"
    pages = "\n".join(
        fill(p.read_text(encoding="utf-8"), ROOT, folder.parent) for p in sorted((ROOT / "book").rglob("*.md"))
    )
    (folder / "notebooks").mkdir(parents=True)
    (folder / "figures").mkdir()
    (folder / "gallery.html").write_text("<h1>gallery</h1>")
    (folder / "credits.md").write_text(acknowledge("storyworld"))
    for name in set(FIGURE.findall(pages)):
        (folder / name).write_text(SVG)
    values = {"d": 3, "s": "a word", "f": 0.5}
    wanted = {(page, name): values[form[-1]] for page, name, form in GLUE.findall(pages)}
    for page in toc_pages(ROOT):
        if page.startswith("notebooks/"):
            numbers = [glued(name, value) for (where, name), value in wanted.items() if where == page]
            seen = new_output("stream", text="seen")
            figure = cell(outputs=[drawn('Bars: "a" < b', "What to *see*.")])
            notebook = new_notebook(cells=[new_markdown_cell(f"# {page}"), figure, cell(outputs=[seen, *numbers])])
            if page.endswith("01_data"):
                named = sorted(set(NAMED.findall(pages)))
                notebook.cells += [cell(outputs=[drawn(f"Of {name}", "See.", name)]) for name in named]
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
    assert method.count('src="../_static/mathjax/startup.js') == 1
    assert all((html / "_static" / "mathjax" / part).stat().st_size > 1000 for part in MATHJAX)
    assert '<svg id="architecture"' in method
    assert "free for any use (CC0 1.0)" in (html / "book" / "credits.html").read_text()
    notebook = (html / "notebooks" / "02_train.html").read_text()
    assert re.search(r"colab\.research\.google\.com/github/[^\"]*/notebooks/02_train\.ipynb", notebook)
    # a figure of a notebook has its description and a numbered caption
    assert 'alt="Bars: &quot;a&quot; &lt; b"' in notebook
    assert re.search(r'caption-number">Fig. \d+ </span>.*?What to <em>see</em>', notebook, flags=re.DOTALL)
    assert "Executed from" in notebook and "/blob/main/notebooks/02_train.ipynb" in notebook
    assert (html / "gallery.html").read_text() == "<h1>gallery</h1>"
    # what is generated is there
    assert "contrastive_weight" in (html / "book" / "parameters.html").read_text()
    assert 'id="storylib.model.StoryModel"' in (html / "book" / "api.html").read_text()
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
    assert "credits.md does not exist: python -m storylib.report.acknowledgements makes it" in str(error.value)
    assert "gallery.html does not exist: make it first" in str(error.value)


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
        '<a href="nowhere.html">x</a>',
        '<a href="a.html#nowhere">x</a>',
        '<a href="#nowhere">x</a>',
        '<img src="a.svg">',
        '<img src="a.svg" alt="a.svg">',
        '<img src="a.svg" alt=" … ">',
    ],
)
def test_a_page_that_is_not_fit_to_publish_is_refused(text, tmp_path):
    (tmp_path / "a.html").write_text(text)
    assert len(check_html(tmp_path)) == 1


def test_styles_are_looked_through_and_links_are_no_fault(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="https://x.org">x</a><link rel="canonical" href="https://x.org"><img alt="a" src="_images/a.svg">'
        '<a href="#b">x</a><a href="a.html?x=1#b">x</a><a href="a.css" name="b">x</a><a href="mailto:a@x.org">x</a>'
        '<img alt="b" src="data:image/png;base64,AA"><pre>{glue:text}`a`</pre><script src="_static/a.js"></script>'
    )
    (tmp_path / "a.css").touch()
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


def test_the_reference_names_every_module():
    named = set(re.findall(r"automodule:: storylib\.(\w+)", (ROOT / "book" / "api.md").read_text()))
    modules = {p.stem for p in (ROOT / "storylib").glob("*.py")} | {
        p.parent.name for p in (ROOT / "storylib").glob("*/__init__.py")
    }
    assert named == {m for m in modules if not m.startswith("__")}
