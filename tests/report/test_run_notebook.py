"""A notebook with a wrong parameter is refused, and one that fails is not published."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from storylib.report.notebooks import NotebookError, check_parameters, finish, run_chapters, run_notebook

PARAMETERS = 'source = "storyworld"\nseed = 0\nweight = 1.0\nfast = True\nlimit = None\nsizes = [1, 2]'


@pytest.fixture
def notebook(tmp_path):
    def write(*cells, parameters=PARAMETERS, name="02_train.ipynb"):
        first = new_code_cell(parameters, metadata={"tags": ["parameters"]})
        book = new_notebook(cells=[first, *map(new_code_cell, cells)])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, tmp_path / name)
        return tmp_path / name

    return write


def test_values_from_the_command_line_become_the_declared_types(notebook):
    texts = {"source": "3", "seed": "3", "weight": "1", "fast": "false", "limit": "null", "sizes": "[4]"}
    values = check_parameters(notebook(), texts)
    assert values == {"source": "3", "seed": 3, "weight": 1.0, "fast": False, "limit": None, "sizes": [4]}
    assert type(values["weight"]) is float


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sourse", "folder", "Did you mean 'source'?"),
        ("seed", "three", "'seed' is of type int"),
        ("seed", "1.5", "'seed' is of type int"),
        ("weight", "[", "'weight' is of type float"),
        ("fast", "yes", "'fast' is of type bool"),
    ],
)
def test_a_wrong_parameter_is_refused(notebook, name, value, message):
    with pytest.raises(NotebookError, match=re.escape(message)):
        check_parameters(notebook(), {name: value})


def test_a_complete_notebook_is_published_with_its_figures(notebook, tmp_path, monkeypatch):
    draw = "import os\nopen(os.environ['STORYLIB_FIGURES'] + '/a.svg', 'w').write('<svg/>')"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside.txt").write_text("seen")
    second = (
        "import jsonschema, sys\nprint(seed + 1, open('beside.txt').read(), 'lark' in sys.modules)"  # a slow import
    )
    path = notebook(draw, second)  # paths start where the user stands
    out, figures = Path("out/02_train.ipynb"), Path("out/figures")
    run_notebook(Path(path.name), out, {"seed": "41"}, figures)
    assert printed(out) == "42 seen False\n"
    assert (figures / "a.svg").read_text() == "<svg/>"
    assert sorted(p.name for p in out.parent.iterdir()) == ["02_train.ipynb", "figures"]
    assert "STORYLIB_FIGURES" not in os.environ


def test_chapters_share_a_kernel_but_no_variables_and_only_changed_ones_run(notebook, tmp_path, monkeypatch):
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setenv("STORYLIB_HOME", str(tmp_path))
    count = "import sys\nsys.runs = getattr(sys, 'runs', 0) + 1\nprint(sys.runs, source, 'left' in dir())\nleft = 1"
    contents = []
    for name in ("01_a", "02_b"):
        notebook(count, name=f"notebooks/{name}.ipynb", parameters='source = "storyworld"')
        contents.append(tmp_path / name)
        contents[-1].write_text("first")
    offered = {"source": "folder:x", "profile": "quick"}  # a chapter gets what it declares
    keys = run_chapters(contents, tmp_path / "executed", offered)
    outputs = [tmp_path / "executed" / "notebooks" / f"{path.name}.ipynb" for path in contents]
    assert [printed(out) for out in outputs] == ["1 folder:x False\n", "2 folder:x False\n"]
    counts = [cell.execution_count for out in outputs for cell in nbformat.read(out, as_version=4).cells]
    assert counts[: len(counts) // 2] == counts[len(counts) // 2 :]  # each is numbered from the start
    contents[1].write_text("second")
    assert run_chapters(contents, tmp_path / "executed", offered) != keys
    assert [printed(out) for out in outputs] == ["1 folder:x False\n", "1 folder:x False\n"]


def printed(path):
    return nbformat.read(path, as_version=4).cells[-1].outputs[0].text


def test_a_failed_notebook_leaves_what_was_published_before(notebook, tmp_path):
    out, figures = tmp_path / "out.ipynb", tmp_path / "figures"
    out.write_text("earlier")
    draw = "import os\nopen(os.environ['STORYLIB_FIGURES'] + '/a.svg', 'w').close()"
    path = notebook(draw, "print('so far')\n1 / (seed - 3)", "print('never')")
    with pytest.raises(NotebookError) as failure:
        run_notebook(path, out, {"seed": "3"}, figures)
    message = str(failure.value)
    assert "1 / (seed - 3)" in message and "ZeroDivisionError" in message and "out.failed" in message
    assert out.read_text() == "earlier" and not figures.exists()
    assert "so far" in (tmp_path / "out.failed").read_text()


def test_a_failure_outside_a_cell_is_explained_too(notebook, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise TimeoutError("a cell took more than 2 s")

    monkeypatch.setattr("papermill.execute_notebook", fail)
    with pytest.raises(NotebookError, match=r"nothing was published[\s\S]*more than 2 s"):
        run_notebook(notebook("1"), tmp_path / "out.ipynb", {})
    assert not (tmp_path / "out.ipynb").exists()


def test_progress_widgets_are_left_out(tmp_path):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "0%|"}
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {}})
    outputs = [nbformat.v4.new_output("display_data", view), nbformat.v4.new_output("stream", text="kept")]
    notebook.cells = [nbformat.v4.new_code_cell("1", outputs=outputs), nbformat.v4.new_markdown_cell("prose")]
    nbformat.write(notebook, tmp_path / "n.ipynb")
    finish(tmp_path / "n.ipynb", "")
    clean = nbformat.read(tmp_path / "n.ipynb", as_version=4)
    assert [o.output_type for o in clean.cells[0].outputs] == ["stream"]
    assert "widgets" not in clean.metadata
