"""Parts of pages that are generated: parameters, the library, costs and negative results.

A page requests one with a line of its own: ``<!-- generated: parameters -->``.
"""

from __future__ import annotations

import ast
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import nbformat
import pandas as pd

from storylib.config import LAYERS

PACKAGE = Path(__file__).parents[1]
MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
PARTS = {"DataConfig": "Stories", "ModelConfig": "Model", "TrainConfig": "Training"}
NO_RECORD = "*There is no published record of this yet.*"


def fill(page: str, root: Path, built: Path) -> str:
    """The page with its generated parts.

    root: the project. built: where the workflow put receipts and costs. Raises KeyError for an unknown part.
    """
    return MARK.sub(lambda mark: GENERATORS[mark[1]](root, built), page)


def parameters(root: Path, built: Path) -> str:
    """One table per notebook: names, defaults and comments of its parameters cell."""
    parts = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title = next(cell.source for cell in cells if cell.cell_type == "markdown").splitlines()[0].lstrip("# ")
        code = "\n".join(cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
        parts.append(f"### {title}: `{path.name}`\n\n{table(('Parameter', 'Default', 'Meaning'), assignments(code))}")
    return "\n\n".join(parts)


def fields(root: Path, built: Path) -> str:
    """One table per part of the configuration: fields, defaults and comments, from the code."""
    code = (PACKAGE / "config.py").read_text(encoding="utf-8")
    parts = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef) and node.name in PARTS:
            body = "\n".join(code.splitlines()[node.lineno - 1 : node.end_lineno])
            rows = assignments(textwrap.dedent(body.partition('"""\n\n')[2]))
            parts.append(f"### {PARTS[node.name]}: `{node.name}`\n\n{table(('Field', 'Default', 'Meaning'), rows)}")
    return "\n\n".join(parts)


def assignments(code: str) -> list[tuple[str, str, str]]:
    """(name, value, comment) of each assignment in some code; ``field(default=...)`` counts as its default."""
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    }
    rows = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            value = node.value
            if isinstance(value, ast.Call):
                value = next((keyword.value for keyword in value.keywords if keyword.arg == "default"), value)
            rows.append((f"`{ast.unparse(target)}`", f"`{ast.unparse(value)}`", comments.get(node.lineno, "")))
    return rows


def api(root: Path, built: Path) -> str:
    """A section per layer of the package, in the order of imports, with every public module and its docstrings."""
    parts = []
    for layer in LAYERS:
        modules = [f"storylib.{layer}"]
        modules += [f"storylib.{layer}.{path.stem}" for path in sorted((PACKAGE / layer).glob("[!_]*.py"))]
        modules += [f"storylib.{layer}.{path.parent.name}" for path in sorted((PACKAGE / layer).glob("*/__init__.py"))]
        parts.append(f"## {layer}")
        for module in modules:
            options = "   :members:\n   :exclude-members: from_pretrained, push_to_hub, save_pretrained"
            heading = f"### `{module}`\n\n" if module.count(".") > 1 else ""
            parts.append(f"{heading}```{{eval-rst}}\n.. automodule:: {module}\n{options}\n```")
    return "\n\n".join(parts)


def costs(root: Path, built: Path) -> str:
    """Time and memory of each step of this book, as Snakemake measured them."""
    steps: dict[str, list[pd.Series]] = {}
    for path in sorted(built.glob("costs/*.tsv")):
        steps.setdefault(path.stem.partition("-")[0], []).append(pd.read_csv(path, sep="\t").iloc[0])
    rows = []
    for step, jobs in steps.items():
        memory = max(job["max_rss"] for job in jobs)
        rows.append((step, len(jobs), _span([job["s"] for job in jobs]), f"{memory:,.0f}"))
    head = ("Step", "Jobs", "Seconds per job", "Peak memory, MB")
    return table(head, rows) if rows else "*This copy of the book was not made by the workflow: nothing was measured.*"


def clusters(root: Path, built: Path) -> str:
    """What the runs took on each cluster, from ``results/cluster-*.json``."""
    rows: list[tuple[object, ...]] = []
    for path in sorted((root / "results").glob("cluster-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        jobs = record["jobs"].values()
        scheduler = f"{record['scheduler']}, {record['cores']} cores"
        memory = max(job["memory_mb"] for job in jobs)
        seconds = (f"{record['seconds']:.0f}", _span([job["seconds"] for job in jobs]))
        rows.append((f"`{record['command']}`", scheduler, len(jobs), *seconds, f"{memory:,}"))
    head = ("Command", "Scheduler", "Jobs", "Seconds in all", "Seconds per job", "Peak memory, MB")
    return table(head, rows) if rows else NO_RECORD


def colab(root: Path, built: Path) -> str:
    """How long each notebook takes on the simulated bare machine: ``results/colab.json``."""
    path = root / "results" / "colab.json"
    if not path.is_file():
        return NO_RECORD
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (f"`{row['notebook']}`", f"{row['seconds']:.0f}", len(row["installed"]), row["torch"])
        for row in record["notebooks"]
    ]
    head = ("Notebook", "Seconds, installation included", "Packages installed", "torch, before and after")
    return f"{table(head, rows)}\n\nOn {record['cores']} cores without a GPU, Python {record['python']}."


def ideas(root: Path, built: Path) -> str:
    """Negative results: one section for each record in ``results/ideas``, in the words of the record."""
    parts = []
    for path in sorted((root / "results" / "ideas").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        parts.append(f"## {record['title']}")
        parts += [str(record[key]) for key in ("hypothesis", "result", "verdict", "conclusion") if record.get(key)]
        if rows := record.get("rows"):
            parts.append(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
        script = record["script"]
        origin = f"Record: `results/ideas/{path.name}`. Script: `{script['path']}` at commit `{script['commit'][:8]}`."
        parts.append(origin)
    return "\n\n".join(parts) or NO_RECORD


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Not ``DataFrame.to_markdown``, which reads texts as numbers and does not escape bars."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", str(value))


def _span(values: Sequence[float]) -> str:
    """The least and the greatest of some values, as whole numbers."""
    low, high = f"{min(values):.0f}", f"{max(values):.0f}"
    return low if low == high else f"{low} to {high}"


GENERATORS: dict[str, Callable[[Path, Path], str]] = {
    function.__name__: function for function in (parameters, fields, api, costs, clusters, colab, ideas)
}
