"""Execute a notebook with checked parameters, and publish it only if it ran to the end."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import indent
from typing import Any

from storylib.config import project_root, unknown
from storylib.data.store import write_atomically

FOLDERS = ("STORYLIB_CACHE", "STORYLIB_RUNS", "STORYLIB_AFRICAN_STORYBOOK", "STORYLIB_FOLDER")
WIDGET = "application/vnd.jupyter.widget-view+json"
TRACEBACK = 12  # lines of a traceback that are shown


class NotebookError(RuntimeError):
    """A notebook that cannot be executed as requested; the message says what to do."""


def run_notebook(
    notebook: Path, output: Path, parameters: Mapping[str, Any], figures: Path | None = None, timeout: int | None = None
) -> Path:
    """Execute a notebook and write it to ``output`` if it ran to the end.

    parameters: values by the names that the notebook's parameters cell declares.
    figures: a folder for the files of ``style.save``, written together with the notebook.
    timeout: seconds that a cell may take.

    Raises NotebookError if the notebook fails. ``output`` is then unchanged, and what was executed until the failure
    is beside it as ``<name>.failed``.
    """
    import papermill

    notebook, output = notebook.resolve(), output.resolve()
    values = check_parameters(notebook, parameters)
    failed = output.with_suffix(".failed")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="storylib-") as work:
        partial, drawn, empty = Path(work, output.name), Path(work, "figures"), Path(work, "empty")
        drawn.mkdir()
        empty.mkdir()
        options = {"kernel_name": "python3", "execution_timeout": timeout}
        try:
            with environment(STORYLIB_HOME=str(project_root().resolve()), STORYLIB_FIGURES=str(drawn)):
                # In an empty folder, so that no notebook depends on where it was started from.
                papermill.execute_notebook(notebook, partial, values, cwd=empty, **options)
        except Exception as error:
            if partial.exists():
                shutil.copyfile(partial, failed)
            raise NotebookError(explain(notebook, failed, error)) from error
        finish(partial)
        if figures is not None:
            for figure in sorted(drawn.iterdir()):
                write_atomically(figures.resolve() / figure.name, figure.read_bytes())
        write_atomically(output, partial.read_bytes())
    failed.unlink(missing_ok=True)
    return output


def finish(path: Path) -> None:
    """Add commit and machine to an executed notebook, and remove progress widgets, which a page loads from the web."""
    from storylib.experiments.provenance import provenance

    notebook = json.loads(path.read_text(encoding="utf-8"))
    facts = provenance("unknown")
    notebook["metadata"]["storylib"] = {name: facts[name] for name in ("commit", "dirty", "python", "machine")}
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, each declared by the notebook and of the type of its default.

    A text, as from the command line, is read as that type. Raises NotebookError.
    """
    declared = declared_parameters(notebook)
    for name in parameters:
        if name not in declared:
            raise NotebookError(f"{notebook.name}: {unknown('parameter', name, declared)}")
    return {name: _converted(notebook, name, value, declared[name]) for name, value in parameters.items()}


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults of the cell tagged ``parameters``. Raises NotebookError if one is not a plain literal."""
    if not notebook.is_file():
        known = ", ".join(sorted(path.name for path in notebook.parent.glob("*.ipynb")))
        raise NotebookError(f"There is no notebook {notebook}. Known: {known or 'none in this folder'}.")
    declared: dict[str, Any] = {}
    for statement in ast.parse(parameters_code(notebook)).body:
        try:
            assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            declared[statement.targets[0].id] = ast.literal_eval(statement.value)
        except (AssertionError, ValueError):
            line = ast.unparse(statement)
            raise NotebookError(f"{notebook.name}: {line!r} in the parameters cell is not a plain literal") from None
    return declared


def parameters_code(notebook: Path) -> str:
    """The code of the cell tagged ``parameters``."""
    cells = read_cells(notebook)
    return "\n".join(cell["source"] for cell in cells if "parameters" in cell["metadata"].get("tags", []))


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook, each with its source as one text. nbformat would take as long to import as torch."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return [cell | {"source": "".join(cell["source"])} for cell in cells]


def explain(notebook: Path, failed: Path, error: Exception) -> str:
    """The failing cell, the end of its traceback, and where the partial notebook is."""
    import papermill

    text = [f"{notebook.name} failed; nothing was published."]
    trace = f"{type(error).__name__}: {error}"
    if isinstance(error, papermill.PapermillExecutionError):
        text += [f"In its cell {error.cell_index + 1}:", indent(error.source, "    "), "The end of the traceback:"]
        trace = "\n".join(error.traceback)
    text.append(indent("\n".join(trace.splitlines()[-TRACEBACK:]), "    "))
    if failed.exists():
        text.append(f"The partial notebook is {failed}; copy it to a name that ends in .ipynb to open it in Jupyter.")
    return without_colours("\n".join(text))


def without_colours(text: str) -> str:
    """The text of a terminal without its colour codes."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """Environment variables for the kernel, restored afterwards. The kernel has another folder: paths are absolute."""
    before = dict(os.environ)
    folders = {name: str(Path(before[name]).expanduser().resolve()) for name in FOLDERS if before.get(name)}
    os.environ.update(folders | changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _converted(notebook: Path, name: str, value: Any, default: Any) -> Any:
    """A value as the type of the default; a default of None accepts any type."""
    wanted = type(default)
    if isinstance(value, str) and wanted is not str:
        with suppress(ValueError, SyntaxError):  # stays a text, which is an error below unless the default is None
            value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value.lower(), value))
    if wanted is float and type(value) is int:
        return float(value)
    if default is None or type(value) is wanted:
        return value
    wish = f"is of type {wanted.__name__} (it is {default!r} by default)"
    raise NotebookError(f"{notebook.name}: parameter {name!r} {wish}, not {value!r} ({type(value).__name__}).")
