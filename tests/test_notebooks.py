"""The notebooks are thin, without outputs, and take their parameters from one cell of plain literals."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import tokenize
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def faults(notebook):
    """The rules that a notebook breaks."""
    code = [c for c in notebook.cells if c.cell_type == "code"]
    found = []
    lines = [
        sum(1 for line in c.source.splitlines() if line.strip() and not line.strip().startswith("#")) for c in code
    ]
    if sum(lines) > 70:
        found.append(f"{sum(lines)} lines of code, more than 70")
    if max(lines, default=0) > 12:
        found.append(f"a cell of {max(lines)} lines, more than 12")
    if any(c.outputs or c.execution_count is not None for c in code):
        found.append("outputs: strip them before committing")
    if {"papermill", "widgets"} & set(notebook.metadata):
        found.append("metadata of an execution")
    for cell in code:
        tree = ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE))
        if any(isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for n in ast.walk(tree)):
            found.append("a def or class: it belongs in storylib")
    first = notebook.cells[0] if notebook.cells else new_code_cell()
    if first.cell_type != "markdown" or not first.source.startswith("# ") or "?" not in first.source:
        found.append("no question in a Markdown cell at the top")
    headings = [
        line for c in notebook.cells if c.cell_type == "markdown" for line in c.source.splitlines() if line[:2] == "##"
    ]
    if "## In short" not in headings[-2:]:
        found.append("no section 'In short' at the end")
    return found + parameter_faults([c for c in code if "parameters" in c.metadata.get("tags", [])])


def parameter_faults(cells):
    if len(cells) != 1:
        return [f"{len(cells)} cells tagged 'parameters', not one"]
    found = []
    comments = {
        t.start[0]
        for t in tokenize.generate_tokens(io.StringIO(cells[0].source).readline)
        if t.type == tokenize.COMMENT
    }
    for statement in ast.parse(cells[0].source).body:
        try:
            ast.literal_eval(statement.value)
            assert isinstance(statement, ast.Assign)
        except (AssertionError, AttributeError, ValueError):
            found.append(f"not a plain literal: {ast.unparse(statement)}")
        if statement.lineno not in comments:
            found.append(f"no comment: {ast.unparse(statement)}")
    return found


@pytest.mark.skipif(not NOTEBOOKS, reason="there is no notebook yet")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_keeps_the_rules(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert faults(notebook) == []


def good():
    parameters = new_code_cell("seed = 0  # of the training", metadata={"tags": ["parameters"]})
    question = new_markdown_cell("# Title\n\nWhat is it?")
    return new_notebook(
        cells=[question, parameters, new_code_cell("seed + 1"), new_markdown_cell("## In short\n\nOne.")]
    )


def test_a_good_notebook_has_no_fault():
    assert faults(good()) == []


@pytest.mark.parametrize(
    ("cell", "source", "fault"),
    [
        (2, "\n".join(f"a = {i}" for i in range(13)), "more than 12"),
        (2, "def f():\n    return 1", "belongs in storylib"),
        (2, "class A:\n    pass", "belongs in storylib"),
        (1, "import os\nseed = 0  # of the training", "not a plain literal"),
        (1, "seed = 2 ** 3  # of the training", "not a plain literal"),
        (1, "seed = 0", "no comment"),
        (0, "# Title\n\nNo question.", "no question"),
        (3, "## The end", "In short"),
    ],
)
def test_each_fault_is_found(cell, source, fault):
    notebook = good()
    notebook.cells[cell].source = source
    assert fault in " ".join(faults(notebook))


def test_too_much_code_in_all_is_found():
    notebook = good()
    notebook.cells[2:2] = [new_code_cell("\n".join(["a = 1"] * 12)) for _ in range(6)]
    assert "more than 70" in " ".join(faults(notebook))


def test_outputs_and_a_second_parameters_cell_are_found():
    notebook = good()
    notebook.cells[2].execution_count = 1
    notebook.cells.insert(2, notebook.cells[1])
    assert "outputs" in " ".join(faults(notebook)) and "2 cells tagged" in " ".join(faults(notebook))


READ_ONLY = """
import json, os, sys
from pathlib import Path
import myst_nb
glued = {}
for home, path, end in json.loads(sys.argv[1]):
    os.environ["STORYLIB_HOME"] = home
    names, keys = {}, glued.setdefault(f"{home} {Path(path).name}", [])
    myst_nb.glue = lambda key, value, display=True, keys=keys: keys.append(key)
    for cell in json.loads(Path(path).read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if end and end in source:
            break
        if cell["cell_type"] == "code" and "remove-cell" not in cell["metadata"].get("tags", []):
            exec(compile(source, f"{path}, cell {cell['id']}", "exec"), names)
print(json.dumps({"torch": "torch" in sys.modules, "glued": glued}))
"""
GLUE = re.compile(r"\{glue:text\}`(?:/notebooks/([\w.]+)::)?(\w+)")


def glue_references(notebook: str) -> set[str]:
    """The glued values of a notebook that its own Markdown and the pages of the book use."""
    root = Path(__file__).parents[1]
    cells = nbformat.read(root / "notebooks" / notebook, as_version=4).cells
    own = GLUE.findall("\n".join(cell.source for cell in cells if cell.cell_type == "markdown"))
    pages = GLUE.findall("\n".join(page.read_text(encoding="utf-8") for page in (root / "book").glob("*.md")))
    return {key for _, key in own} | {key for name, key in pages if name == notebook}


def test_chapters_that_only_read_records_run_without_torch_and_glue_what_pages_use(tmp_path):
    root = Path(__file__).parents[1]
    (tmp_path / "experiments.yml").write_text((root / "experiments.yml").read_text())  # a project without records
    chapters = [
        (root, "00_findings.ipynb", ""),
        (root, "05_audit.ipynb", "from storylib.audit import ladders"),  # runs the ladders from there on
        (root, "06_cost.ipynb", ""),
        (tmp_path, "06_cost.ipynb", ""),
    ]
    arguments = json.dumps([(str(home), str(root / "notebooks" / name), end) for home, name, end in chapters])
    environment = os.environ | {"STORYLIB_FIGURES": str(tmp_path)}
    command = [sys.executable, "-c", READ_ONLY, arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["torch"] is False
    for home, name, end in chapters:
        assert end or glue_references(name) <= set(result["glued"][f"{home} {name}"]), name
    assert {path.stem for path in tmp_path.glob("*.svg")} >= {"findings_endpoints", "audit"}
