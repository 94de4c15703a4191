"""What a report cost, as a table of what the workflow measured.

Work is CPU time, which hardly depends on what else the machine does.
"""

from __future__ import annotations

import pandas as pd

from storylib.config import build_name, project_root


def workflow(source: str, profile: str, watts: float) -> pd.DataFrame:
    """Jobs, CPU and wall-clock minutes of its jobs in turn, peak memory and watt-hours of each step of this book.

    watts: assumed power of a busy core. Empty where the workflow measured nothing.
    """
    files = sorted((project_root() / "_build" / build_name(source, profile) / "costs").glob("*.tsv"))  # by step.py
    jobs = [pd.read_csv(path, sep="\t").head(1).assign(step=path.stem.partition("-")[0]) for path in files]
    if not jobs:
        return pd.DataFrame(columns=["jobs", "minutes of work", "minutes", "peak memory, MB", "watt-hours"])
    table = pd.concat(jobs)
    steps = table.groupby("step", sort=False)
    work = steps["cpu_time"].sum() / 60
    columns = {"jobs": steps.size(), "minutes of work": work, "minutes": steps["s"].sum() / 60}
    return pd.DataFrame(columns | {"peak memory, MB": steps["max_rss"].max(), "watt-hours": work / 60 * watts})
