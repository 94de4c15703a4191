"""Parts of pages that are generated: parameters, the library and the records of what did not help.

A page requests one with a line of its own: ``<!-- generated: parameters -->``, ``<!-- generated: ideas training -->``.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from storylib import config
from storylib.report.notebooks import read_cells

PACKAGE = Path(__file__).parents[1]
MARK = re.compile(r"^<!-- generated: (\w+) ?(\w*) -->$", re.MULTILINE)
IDEA = ("stories", "source", "decoder", "idea")
CHANGE = re.compile(r"\S+ \(([+-])(?!0\.000)\S+ to \1(?!0\.000)\S+\)")  # whose interval excludes zero
PARTS = {"DataConfig": "Stories", "ModelConfig": "Model", "TrainConfig": "Training"}
NO_RECORD = "*There is no published record of this yet.*"


def fill(page: str, root: Path) -> str:
    """The page with its generated parts. root: the project. Raises KeyError for an unknown part."""
    return MARK.sub(lambda mark: GENERATORS[mark[1]](root, *mark[2].split()), page)


def parameters(root: Path) -> str:
    """One table per notebook: names, defaults and comments of its parameters cell."""
    import papermill

    head, parts = ("Parameter", "Default", "Meaning"), []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        title = next(cell["source"] for cell in read_cells(path) if cell["cell_type"] == "markdown").splitlines()[0]
        declared = papermill.inspect_notebook(str(path)).values()
        rows = [(f"`{p['name']}`", f"`{ast.literal_eval(p['default'])!r}`", p["help"]) for p in declared]
        parts.append(f"### {title.lstrip('# ')}: `{path.name}`\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def fields(root: Path) -> str:
    """One table per part of the configuration: fields, defaults and comments, from the code."""
    head, parts = ("Field", "Default", "Meaning"), []
    for name, title in PARTS.items():
        part = getattr(config, name)
        comments = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(part), re.MULTILINE))
        rows = [(f"`{f.name}`", f"`{f.default!r}`", comments.get(f.name, "")) for f in dataclasses.fields(part)]
        parts.append(f"### {title}: `{name}`\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def api(root: Path) -> str:
    """A section per layer of the package, in the order of imports, with every public module and its docstrings."""
    parts = []
    for layer in config.LAYERS:
        modules = [f"storylib.{layer}"]
        modules += [f"storylib.{layer}.{path.stem}" for path in sorted((PACKAGE / layer).glob("[!_]*.py"))]
        modules += [f"storylib.{layer}.{path.parent.name}" for path in sorted((PACKAGE / layer).glob("*/__init__.py"))]
        parts.append(f"## {layer}")
        for module in modules:
            left_out = ["from_pretrained", "push_to_hub", "save_pretrained", *_tuple_fields(module)]
            options = f"   :members:\n   :exclude-members: {', '.join(left_out)}"
            heading = f"### `{module}`\n\n" if module.count(".") > 1 else ""
            parts.append(f"{heading}```{{eval-rst}}\n.. automodule:: {module}\n{options}\n```")
    return "\n\n".join(parts)


def _tuple_fields(module: str) -> list[str]:
    """The fields of a module's named tuples, which Python documents as aliases for numbers."""
    path = PACKAGE.parent / Path(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    classes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ClassDef)]
    tuples = [node for node in classes if "NamedTuple" in map(ast.unparse, node.bases)]
    names = [part.target for node in tuples for part in node.body if isinstance(part, ast.AnnAssign)]
    return sorted({ast.unparse(name) for name in names})


def ideas(root: Path, name: str) -> str:
    """The record ``results/ideas/<name>.json`` as a table, with changes in bold whose interval excludes zero."""
    path = root / "results" / "ideas" / f"{name}.json"
    if not path.exists():
        return NO_RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    rows, made = record["rows"], record.get("script", record)
    head = [name for name in rows[0] if "idea" not in rows[0] or name in IDEA or name.endswith("default")]
    cells = [
        [CHANGE.sub(r"**\g<0>**", str(row[name])) for name in head] for row in rows if row.get("idea") != "default"
    ]
    script = made.get("path") or made["command"]
    origin = f"Record: `results/ideas/{path.name}`. Script: `{script}` at commit `{made['commit'][:8]}`"
    dirty = ", run with uncommitted changes" if record.get("provenance", record).get("dirty") else ""
    return f"{table(head, cells)}\n\n{origin}{dirty}."


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Not ``DataFrame.to_markdown``, which reads texts as numbers and does not escape bars."""
    lines = []
    for row in (head, ["---"] * len(head), *rows):
        cells = [re.sub(r"(?<!\\)\|", r"\\|", str(cell)) for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


GENERATORS = {function.__name__: function for function in (parameters, fields, api, ideas)}
