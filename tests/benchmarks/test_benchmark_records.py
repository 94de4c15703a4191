"""Published records: they can be read, use the current names, and name a command or a script that exists."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from storylib.metrics.registry import METRICS

ROOT = Path(__file__).parents[2]
RECORDS = {path.relative_to(ROOT).as_posix(): path for path in sorted((ROOT / "results").rglob("*.json"))}


@pytest.mark.parametrize("name", RECORDS)
def test_what_made_a_record_exists_or_its_commit_is_named(name):
    content = RECORDS[name].read_text()
    script = json.loads(content).get("script")
    if script:
        assert re.fullmatch(r"benchmarks/\w+\.py", script["path"]) and re.fullmatch("[0-9a-f]{40}", script["commit"])
        assert not (ROOT / script["path"]).exists()
        return
    for module in re.findall(r'"command": "python -m ([\w.]+)', content):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_records_of_the_ablation_hold_current_metrics():
    for name, path in RECORDS.items():
        if name.startswith("results/ablation/"):
            assert {row["metric"] for row in json.loads(path.read_text())["metrics"]} <= set(METRICS)
