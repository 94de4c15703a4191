"""Execute a notebook with checked parameters, and publish it only if it ran to the end."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

from tqdm import tqdm

from storylib.config import digest, project_root, unknown
from storylib.data.store import write_atomically

WIDGET = "application/vnd.jupyter.widget-view+json"
TRACEBACK = 12  # lines of a traceback that are shown
# jsonschema, which checks notebooks, would spend two thirds of its import on grammars of internationalised addresses.
NO_GRAMMARS = "import sys; sys.modules.setdefault('rfc3987_syntax', None)"
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]


class NotebookError(RuntimeError):
    """A notebook that cannot be executed as requested; the message says what to do."""


class Kernel(NamedTuple):
    """A running kernel, and the folder that ``style.save`` writes to in it."""

    manager: Any
    figures: Path

    def reset(self) -> None:
        """Forget every variable; what was imported stays."""
        client = self.manager.blocking_client()
        client.start_channels()
        client.wait_for_ready()
        client.execute("get_ipython().reset()", store_history=False, reply=True)
        for figure in self.figures.iterdir():
            figure.unlink()


@contextmanager
def start_kernel() -> Iterator[Kernel]:
    """A kernel in the current folder, for one notebook or for several that share the cost of its imports."""
    from jupyter_client.manager import KernelManager

    class Manager(KernelManager):
        def client(self, **options: Any) -> Any:
            client = super().client(**options)
            clients.callback(client.stop_channels)  # papermill leaves them open
            return client

    with tempfile.TemporaryDirectory(prefix="storylib-") as figures, ExitStack() as clients:
        manager = Manager(kernel_name="python3")
        if os.name == "posix":  # files: two kernels that start at once may choose the same port
            sockets = clients.enter_context(tempfile.TemporaryDirectory(prefix="storylib-"))
            manager.transport, manager.ip = "ipc", f"{sockets}/kernel"
        environment = os.environ | {"STORYLIB_HOME": str(project_root().resolve()), "STORYLIB_FIGURES": figures}
        manager.start_kernel(env=environment, extra_arguments=[f"--IPKernelApp.exec_lines={NO_GRAMMARS}"])
        try:
            yield Kernel(manager, Path(figures))
        finally:
            manager.shutdown_kernel(now=True)


def run_chapters(contents: Sequence[Path], executed: Path, offered: Mapping[str, str]) -> dict[str, str]:
    """Execute the chapters whose content has changed, in one kernel. Returns the content of each, by name.

    contents: files that name a chapter and hold all that it depends on. offered: parameters, for chapters that have
    them. Raises NotebookError at the first that fails; earlier ones are kept.
    """
    keys = {path.name: digest(path.read_text(encoding="utf-8")) for path in contents}
    notebooks = {name: project_root() / "notebooks" / f"{name}.ipynb" for name in keys}
    changed = [name for name in keys if content_of(executed / "notebooks" / f"{name}.ipynb") != keys[name]]
    with start_kernel() if changed else nullcontext() as kernel:
        for name in tqdm(changed, "chapters", unit="chapter"):
            declared = declared_parameters(notebooks[name])
            values = {parameter: value for parameter, value in offered.items() if parameter in declared}
            output = executed / "notebooks" / f"{name}.ipynb"
            run_notebook(notebooks[name], output, values, executed / "figures", kernel=kernel, content=keys[name])
    return keys


def run_notebook(
    notebook: Path,
    output: Path,
    parameters: Mapping[str, str],
    figures: Path | None = None,
    kernel: Kernel | None = None,
    content: str = "",
) -> Path:
    """Execute a notebook and write it to ``output`` if it ran to the end.

    parameters: texts, as from the command line, by the names that the notebook declares. figures: a folder for the
    files of ``style.save``. kernel: a new one by default. content: names what
    the result depends on, for ``content_of``. Raises NotebookError if the notebook fails; then ``output`` is unchanged,
    and what was executed until the failure is beside it as ``<name>.failed``.
    """
    if kernel is None:
        with start_kernel() as kernel:
            return run_notebook(notebook, output, parameters, figures, kernel, content)
    import papermill

    notebook, output = notebook.resolve(), output.resolve()
    values = check_parameters(notebook, parameters)
    failed = output.with_suffix(".failed")
    output.parent.mkdir(parents=True, exist_ok=True)
    kernel.reset()
    with tempfile.TemporaryDirectory(prefix="storylib-") as work:
        partial = Path(work, output.name)
        options = {"kernel_name": "python3", "km": kernel.manager}
        try:
            papermill.execute_notebook(notebook, partial, values, **options)
        except Exception as error:
            if partial.exists():
                shutil.copyfile(partial, failed)
            raise NotebookError(explain(notebook, failed, error)) from error
        finish(partial, content)
        if figures is not None:
            for figure in kernel.figures.glob("*.svg"):
                write_atomically(figures.resolve() / figure.name, figure.read_bytes())
        write_atomically(output, partial.read_bytes())
    failed.unlink(missing_ok=True)
    return output


def content_of(executed: Path) -> str:
    """What an executed notebook depended on; empty if there is none."""
    if not executed.exists():
        return ""
    return json.loads(executed.read_text(encoding="utf-8"))["metadata"].get("storylib", {}).get("content", "")


def finish(path: Path, content: str) -> None:
    """Add commit and machine to an executed notebook, and remove progress widgets, which a page loads from the web."""
    from storylib.experiments.provenance import provenance

    notebook = json.loads(path.read_text(encoding="utf-8"))
    facts = provenance("unknown")
    notebook["metadata"]["storylib"] = {name: facts[name] for name in ("commit", "dirty", "python", "machine")}
    notebook["metadata"]["storylib"]["content"] = content
    notebook["metadata"].pop("widgets", None)
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = [output for output in cell["outputs"] if WIDGET not in output.get("data", {})]
    path.write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def check_parameters(notebook: Path, texts: Mapping[str, str]) -> dict[str, Any]:
    """Values from the command line, each read as the type of the default that the notebook declares.

    Types other than text and numbers are read as JSON. Raises NotebookError.
    """
    declared = declared_parameters(notebook)
    values = {}
    for name, text in texts.items():
        if name not in declared:
            raise NotebookError(f"{notebook.name}: {unknown('parameter', name, declared)}")
        default = declared[name]
        read = type(default) if type(default) in (str, int, float) else json.loads
        try:
            values[name] = read(text)
        except ValueError:
            wish = f"is of type {type(default).__name__} (it is {default!r} by default)"
            raise NotebookError(f"{notebook.name}: parameter {name!r} {wish}, not {text!r}.") from None
    return values


def declared_parameters(notebook: Path) -> dict[str, Any]:
    """Names and defaults of the cell tagged ``parameters``."""
    import papermill

    parameters = papermill.inspect_notebook(str(notebook))
    return {name: ast.literal_eval(parameter["default"]) for name, parameter in parameters.items()}


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
    return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(text))  # without the colours of a terminal
