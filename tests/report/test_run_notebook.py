"""A notebook with a wrong parameter is refused, and one that fails is not published."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from storylib.report.notebooks import NotebookError, check_parameters, declared_parameters, finish, run_notebook

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
    texts = {"source": "3", "seed": "3", "weight": "1", "fast": "false", "limit": "5", "sizes": "[4]"}
    values = check_parameters(notebook(), texts)
    assert values == {"source": "3", "seed": 3, "weight": 1.0, "fast": False, "limit": 5, "sizes": [4]}
    assert type(values["weight"]) is float


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sourse", "folder", "Did you mean 'source'?"),
        ("seed", "three", "'seed' is of type int"),
        ("seed", "1.5", "'seed' is of type int"),
        ("seed", True, "'seed' is of type int"),
        ("weight", "[", "'weight' is of type float"),
        ("fast", 1, "'fast' is of type bool"),
        ("source", 3, "'source' is of type str"),
    ],
)
def test_a_wrong_parameter_is_refused(notebook, name, value, message):
    with pytest.raises(NotebookError, match=re.escape(message)):
        check_parameters(notebook(), {name: value})


def test_a_default_of_none_takes_text_too(notebook):
    assert check_parameters(notebook(), {"limit": "few"}) == {"limit": "few"}


@pytest.mark.parametrize("line", ["import os", "seed = 2 ** 3", "a, b = 1, 2"])
def test_only_plain_literals_are_parameters(notebook, line):
    with pytest.raises(NotebookError, match="not a plain literal"):
        declared_parameters(notebook(parameters=line))


def test_a_missing_notebook_is_named_with_its_neighbours(notebook, tmp_path):
    notebook(name="03_evaluate.ipynb")
    with pytest.raises(NotebookError, match=r"no notebook .*04.ipynb.*03_evaluate.ipynb"):
        declared_parameters(tmp_path / "04.ipynb")


def test_a_complete_notebook_is_published_with_its_figures(notebook, tmp_path, monkeypatch):
    draw = "import os\nopen(os.environ['STORYLIB_FIGURES'] + '/a.svg', 'w').write('<svg/>')"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORYLIB_CACHE", "here")
    path = notebook(draw, "open('stray', 'w').close(); print(seed + 1, os.environ['STORYLIB_CACHE'])")
    out, figures = Path("out/02_train.ipynb"), Path("out/figures")
    run_notebook(Path(path.name), out, {"seed": 41}, figures)
    printed = nbformat.read(out, as_version=4).cells[-1].outputs[0].text
    assert printed == f"42 {tmp_path / 'here'}\n"
    assert (figures / "a.svg").read_text() == "<svg/>"
    assert sorted(p.name for p in out.parent.iterdir()) == ["02_train.ipynb", "figures"]
    assert not (tmp_path / "stray").exists()  # it ran in a folder of its own
    assert os.environ["STORYLIB_CACHE"] == "here" and "STORYLIB_FIGURES" not in os.environ


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
    def fail(*arguments, execution_timeout, **options):
        raise TimeoutError(f"a cell took more than {execution_timeout} s")

    monkeypatch.setattr("papermill.execute_notebook", fail)
    with pytest.raises(NotebookError, match=r"nothing was published[\s\S]*more than 2 s"):
        run_notebook(notebook("1"), tmp_path / "out.ipynb", {}, timeout=2)
    assert not (tmp_path / "out.ipynb").exists()


def test_progress_widgets_are_left_out(tmp_path):
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "0%|"}
    notebook = nbformat.v4.new_notebook(metadata={"widgets": {}})
    outputs = [nbformat.v4.new_output("display_data", view), nbformat.v4.new_output("stream", text="kept")]
    notebook.cells = [nbformat.v4.new_code_cell("1", outputs=outputs), nbformat.v4.new_markdown_cell("prose")]
    nbformat.write(notebook, tmp_path / "n.ipynb")
    finish(tmp_path / "n.ipynb")
    clean = nbformat.read(tmp_path / "n.ipynb", as_version=4)
    assert [o.output_type for o in clean.cells[0].outputs] == ["stream"]
    assert "widgets" not in clean.metadata
