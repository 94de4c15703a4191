"""Pages that nobody writes by hand: parameters, costs and negative results, from notebooks, code and records.

A page asks for one with a line of its own: ``<!-- generated: parameters -->``.

python -m storylib.reference            after a fork: the address of _config.yml wherever the project's stands
"""

from __future__ import annotations

import ast
import html
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from storylib.config import ConfigError, project_root

MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
PARTS = {"DataConfig": "Stories", "ModelConfig": "Model", "TrainConfig": "Training"}


def fill(page: str, root: Path, built: Path) -> str:
    """The page with what it asks for. root: the project; built: where the workflow put receipts and costs.

    Raises KeyError for a name that nothing makes.
    """
    return MARK.sub(lambda found: MAKERS[found[1]](root, built), page)


def parameters(root: Path, built: Path) -> str:
    """One table a notebook: the names, values and comments of its cell of parameters."""
    parts = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        title = next(c.source for c in cells if c.cell_type == "markdown").splitlines()[0].lstrip("# ")
        tagged = "\n".join(c.source for c in cells if "parameters" in c.metadata.get("tags", []))
        parts.append(f"### {title}: `{path.name}`\n\n{table(('Parameter', 'Default', 'Meaning'), assignments(tagged))}")
    return "\n\n".join(parts)


def fields(root: Path, built: Path) -> str:
    """One table a part of the configuration: its fields, defaults and comments, as they stand in the code."""
    code = Path(__file__).with_name("config.py").read_text(encoding="utf-8")
    parts = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.ClassDef) and node.name in PARTS:
            body = "\n".join(code.splitlines()[node.lineno - 1 : node.end_lineno])
            rows = assignments(textwrap.dedent(body.partition('"""\n\n')[2]))
            parts.append(f"### {PARTS[node.name]}: `{node.name}`\n\n{table(('Field', 'Default', 'Meaning'), rows)}")
    return "\n\n".join(parts)


def assignments(code: str) -> list[tuple[str, str, str]]:
    """(name, value, comment) of each assignment of some code; a ``field(default=...)`` counts as its default."""
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
                value = next((k.value for k in value.keywords if k.arg == "default"), value)
            rows.append((f"`{ast.unparse(target)}`", f"`{ast.unparse(value)}`", comments.get(node.lineno, "")))
    return rows


def costs(root: Path, built: Path) -> str:
    """Time and memory of each step of this book, from what Snakemake measured while it was made."""
    found = [(path.stem, pd.read_csv(path, sep="\t")) for path in sorted(built.glob("costs/*.tsv"))]
    if not found:
        return "*The steps of this copy of the book were not made by the workflow, so nothing was measured.*"
    steps: dict[str, list[pd.Series]] = {}
    for name, measured in found:
        steps.setdefault(name.partition("-")[0], []).append(measured.iloc[0])
    rows = []
    for step, jobs in steps.items():
        seconds, memory = [f"{j['s']:.0f}" for j in sorted(jobs, key=lambda j: j["s"])], max(j["max_rss"] for j in jobs)
        span = " to ".join(dict.fromkeys((seconds[0], seconds[-1])))
        rows.append((step, len(jobs), span, f"{memory:,.0f}"))
    return table(("Step", "Jobs", "Seconds a job", "Memory at most, MB"), rows)


def clusters(root: Path, built: Path) -> str:
    """What the runs took on each cluster that they were tried on, from ``results/cluster-*.json``."""
    rows: list[tuple[object, ...]] = []
    for path in sorted((root / "results").glob("cluster-*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        seconds = [job["seconds"] for job in record["jobs"].values()]
        memory = max(job["memory_mb"] for job in record["jobs"].values())
        where = f"{record['scheduler']}, {record['cores']} cores"
        rows.append((f"`{record['command']}`", where, len(seconds), f"{record['seconds']:.0f}",
                     f"{min(seconds):.0f} to {max(seconds):.0f}", f"{memory:,}"))  # fmt: skip
    head = ("Command", "Scheduler", "Jobs", "Seconds in all", "Seconds a job", "Memory at most, MB")
    return table(head, rows) if rows else "*No record of it has been published yet.*"


def colab(root: Path, built: Path) -> str:
    """How long each notebook takes on the simulated bare machine, installation included: ``results/colab.json``."""
    path = root / "results" / "colab.json"
    if not path.is_file():
        return "*No record of it has been published yet.*"
    record = json.loads(path.read_text(encoding="utf-8"))
    rows = [
        (f"`{row['notebook']}`", f"{row['seconds']:.0f}", len(row["installed"]), row["torch"])
        for row in record["notebooks"]
    ]
    head = ("Notebook", "Seconds, installation included", "Packages installed", "torch, before and after")
    return f"{table(head, rows)}\n\nOn {record['cores']} cores without a GPU, Python {record['python']}."


def ideas(root: Path, built: Path) -> str:
    """What was tried and did not help: one section for each record in ``results/ideas``."""
    parts = []
    for path in sorted((root / "results" / "ideas").glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        title = str(record.get("title") or record.get("idea") or path.stem)
        said = [str(record[k]) for k in ("hypothesis", "why", "result", "verdict", "conclusion") if record.get(k)]
        numbers = record.get("table") or record.get("rows") or []
        shown = table(tuple(numbers[0]), [tuple(row.values()) for row in numbers]) if numbers else ""
        parts.append("\n\n".join(filter(None, (f"## {title}", *said, shown, f"Record: `results/ideas/{path.name}`."))))
    return "\n\n".join(parts) or "*No record of such a trial has been published yet.*"


def front(root: Path, built: Path) -> str:
    """The landing page's figure: the audit of the published claims or, until there is one, the ablation."""
    audit = root / "book" / "images" / "audit.svg"
    if not audit.is_file():
        return figure(
            "/figures/ablation.svg",
            "One row for each metric with the difference between the arms and its 95 percent interval; rows whose "
            "interval crosses zero show no difference.",
            "Each metric with the loss minus without it. Grey lines cross zero: no difference can be told.",
        )
    said = re.search(r'aria-label="([^"]+)"', audit.read_text(encoding="utf-8"))
    alt = html.unescape(said[1]) if said else "What the published protocols measure, step by step."
    caption = (
        "The published claims, step by step: what their protocols measure ([the audit](../notebooks/05_audit.ipynb))."
    )
    return figure("images/audit.svg", alt, caption)


def figure(path: str, alt: str, caption: str) -> str:
    """The figure that pages refer to as ``fig-front``."""
    return f"```{{figure}} {path}\n:name: fig-front\n:alt: {' '.join(alt.split())}\n\n{caption}\n```"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


MAKERS: dict[str, Callable[[Path, Path], str]] = {
    "parameters": parameters,
    "fields": fields,
    "costs": costs,
    "clusters": clusters,
    "colab": colab,
    "ideas": ideas,
    "front": front,
}


def move(root: Path) -> list[Path]:
    """Write the address of ``_config.yml`` wherever the project's address stands; the files that changed."""
    mark = re.compile(r"^(?:repository-code|  url): \"?https://github\.com/([\w./-]+)", re.MULTILINE)
    old, new = (mark.search((root / name).read_text("utf-8")) for name in ("CITATION.cff", "_config.yml"))
    if not old or not new:
        raise ConfigError("CITATION.cff or _config.yml holds no address at github.com")
    changed = []
    files = [root / name for name in ("README.md", "CITATION.cff")]
    for path in [*files, *sorted((root / "book").glob("*.md")), *sorted((root / "notebooks").glob("*.ipynb"))]:
        text = path.read_text(encoding="utf-8")
        moved = re.sub(rf"(github\.com/|/github/|/gh/){re.escape(old[1])}(?![\w-])", rf"\g<1>{new[1]}", text)
        if moved != text:
            path.write_text(moved, encoding="utf-8")
            changed.append(path)
    return changed


def setup(app: Any) -> dict[str, Any]:
    """Sphinx calls this: docstrings are plain text, so that an indented block in one is a drawing or an example."""
    app.connect("autodoc-process-docstring", lambda app, what, name, thing, options, lines: mark_blocks(lines))
    return {"parallel_read_safe": True}


def mark_blocks(lines: list[str]) -> None:
    """Put the ``::`` before every indented block of a docstring that reStructuredText asks for, in place."""
    marked: list[str] = []
    for line in lines:
        begins = line.startswith("    ") and len(marked) > 1 and not marked[-1].strip()
        if begins and not marked[-2].startswith(" ") and not marked[-2].endswith("::"):
            marked += ["::", ""]
        marked.append(line)
    lines[:] = marked


if __name__ == "__main__":
    for moved_file in move(project_root()):
        print(moved_file)
