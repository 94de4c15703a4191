"""Executes a notebook with parameters: refuses names it does not declare, publishes only what ran to the end.

python -m storylib.runner notebooks/02_train.ipynb out.ipynb -p source african_storybook -p seed 3
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import papermill

from storylib.config import project_root, unknown


class NotebookError(RuntimeError):
    """A notebook that cannot be executed as asked; the message says what to do."""


def run_notebook(
    notebook: Path | str,
    output: Path | str,
    parameters: Mapping[str, Any] | None = None,
    figures: Path | str | None = None,
    timeout: int | None = None,
) -> Path:
    """Execute a notebook and publish it at ``output`` when it ran to the end.

    parameters: values by the names that the notebook's parameters cell declares.
    figures: where ``plots.save`` puts its files; published together with the notebook.
    timeout: seconds that a cell may take.

    A notebook that fails leaves ``output`` as it was, and what it got to beside it as ``<name>.failed``.
    """
    notebook, output = Path(notebook).resolve(), Path(output).resolve()
    values = check_parameters(notebook, parameters or {})
    failed = output.with_suffix(".failed")
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="storylib-") as work:
        partial, drawn, empty = Path(work, "out", output.name), Path(work, "figures"), Path(work, "empty")
        for folder in (partial.parent, drawn, empty):
            folder.mkdir()
        try:
            with environment(STORYLIB_HOME=str(project_root().resolve()), STORYLIB_FIGURES=str(drawn)):
                # It runs in an empty folder, so that no notebook can come to depend on where it was started from.
                papermill.execute_notebook(
                    notebook, partial, values, cwd=empty, kernel_name="python3", execution_timeout=timeout
                )
        except Exception as error:
            if partial.exists():
                shutil.copyfile(partial, failed)
            raise NotebookError(explain(notebook, failed, error)) from error
        finish(partial)
        if figures is not None:
            for figure in sorted(drawn.iterdir()):
                publish(figure, Path(figures).resolve() / figure.name)
        publish(partial, output)
    failed.unlink(missing_ok=True)
    return output


def finish(path: Path) -> None:
    """Note in an executed notebook by which commit and machine it was made, and take progress widgets out of it.

    To show such a widget, a page would ask the network.
    """
    from storylib.runs import pick_device, provenance  # imports torch, which checking parameters must not cost

    notebook = nbformat.read(path, as_version=4)
    made = provenance(pick_device())
    notebook.metadata["storylib"] = {k: made[k] for k in ("commit", "dirty", "python", "device", "machine")}
    notebook.metadata.pop("widgets", None)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [
                out for out in cell.outputs if "application/vnd.jupyter.widget-view+json" not in out.get("data", {})
            ]
    nbformat.write(notebook, path)


def check_parameters(notebook: Path, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters, each known to the notebook and of the type of the literal that it declares.

    A value given as text, as on the command line, is read as the declared type.
    """
    declared = declared_parameters(notebook)
    for name in parameters:
        if name not in declared:
            raise NotebookError(f"{notebook.name}: {unknown('parameter', name, declared)}")
    return {name: _fit(notebook, name, value, declared[name]) for name, value in parameters.items()}


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and default values of the cell tagged ``parameters``; each must be a plain literal."""
    if not notebook.is_file():
        raise NotebookError(f"There is no notebook {notebook}. Known: {_names(notebook.parent)}.")
    tagged = [c for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    declared: dict[str, Any] = {}
    for statement in ast.parse("\n".join(c.source for c in tagged)).body:
        try:
            target: Any = (
                statement.targets[0] if isinstance(statement, ast.Assign) else getattr(statement, "target", None)
            )
            declared[target.id] = ast.literal_eval(getattr(statement, "value"))  # noqa: B009
        except (AttributeError, ValueError):
            line = ast.unparse(statement)
            raise NotebookError(f"{notebook.name}: {line!r} in the parameters cell is not a plain literal") from None
    return declared


def explain(notebook: Path, failed: Path, error: Exception, lines: int = 12) -> str:
    """The failing cell, the end of its traceback, and the way out."""
    text = [f"{notebook.name} failed; nothing was published."]
    if isinstance(error, papermill.PapermillExecutionError):
        trace = [line for part in error.traceback for line in _plain(part).splitlines()]
        text += [f"In its cell {error.cell_index + 1}:", *_indented(error.source.splitlines())]
        text += ["The end of the traceback:", *_indented(trace[-lines:])]
    else:
        text += _indented(_plain(f"{type(error).__name__}: {error}").splitlines()[-lines:])
    if failed.exists():
        text.append(f"What it got to: {failed} (copy it to a name that ends in .ipynb to open it in Jupyter).")
    return "\n".join(text)


def publish(source: Path, target: Path) -> None:
    """Put a finished file in its place in one step, so that no reader ever sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(source, temporary)
    os.replace(temporary, target)


@contextmanager
def environment(**changes: str) -> Iterator[None]:
    """Environment variables for the kernel, put back afterwards."""
    before = {name: os.environ.get(name) for name in (*changes, *_FOLDERS)}
    folders = {name: str(Path(os.environ[name]).expanduser().resolve()) for name in _FOLDERS if os.environ.get(name)}
    os.environ.update(folders | changes)  # a relative folder would be looked for in the kernel's own
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


_FOLDERS = ("STORYLIB_CACHE", "STORYLIB_RUNS", "STORYLIB_AFRICAN_STORYBOOK", "STORYLIB_FOLDER")


def _fit(notebook: Path, name: str, value: Any, default: Any) -> Any:
    wanted = type(default)
    if isinstance(value, str) and wanted is not str:
        try:
            value = ast.literal_eval({"true": "True", "false": "False", "none": "None"}.get(value.lower(), value))
        except (ValueError, SyntaxError):
            if default is not None:  # a default of None says nothing about the type
                raise NotebookError(_wrong(notebook, name, value, default)) from None
    if wanted is float and type(value) is int:
        return float(value)
    if default is None or type(value) is wanted:
        return value
    raise NotebookError(_wrong(notebook, name, value, default))


def _wrong(notebook: Path, name: str, value: Any, default: Any) -> str:
    kind, got = type(default).__name__, type(value).__name__
    return (
        f"{notebook.name}: parameter {name!r} is of type {kind} (it is {default!r} by default), not {value!r} ({got})."
    )


def _names(folder: Path) -> str:
    return ", ".join(sorted(p.name for p in folder.glob("*.ipynb"))) or f"no notebook at all in {folder}"


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m storylib.runner", description=__doc__)
    parser.add_argument("notebook", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--figures", type=Path, help="folder for the figures that the notebook saves")
    parser.add_argument("--timeout", type=int, help="seconds that a cell may take")
    options = parser.parse_args(arguments)
    try:
        run_notebook(options.notebook, options.output, dict(options.parameter), options.figures, options.timeout)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.notebook.name} ran to the end: {options.output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
