"""The generated pages say what the notebooks, the configuration and the records say."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from storylib.config import LAYERS, Config, project_root
from storylib.report.notebooks import declared_parameters
from storylib.report.pages import api, clusters, colab, costs, fields, fill, ideas, parameters, table

ROOT = project_root()


def test_every_parameter_of_every_notebook_is_there_with_its_default(tmp_path):
    page = fill("a\n<!-- generated: parameters -->\nb", ROOT, tmp_path)
    assert page.startswith("a\n### ") and page.endswith("|\nb")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        section = parameters(ROOT, tmp_path).partition(f"`{notebook.name}`")[2].partition("###")[0]
        rows = dict(line.split(" | ")[:2] for line in section.splitlines() if line.startswith("| `"))
        assert rows == {f"| `{name}`": f"`{value!r}`" for name, value in declared_parameters(notebook).items()}


def test_every_field_of_the_configuration_is_there_with_its_default(tmp_path):
    page = fields(ROOT, tmp_path)
    for part in dataclasses.fields(Config()):
        for field in dataclasses.fields(getattr(Config(), part.name)):
            default = getattr(getattr(Config(), part.name), field.name)
            assert f"| `{field.name}` | `{default!r}` |" in page
    assert "| `width` | `256` | shared space, fused state and temporal state |" in page


def test_bars_do_not_break_a_table():
    assert table(["a"], [["one | two"]]).splitlines()[2] == r"| one \| two |"


def test_costs_are_the_least_and_the_most_of_each_step(tmp_path):
    assert "nothing was measured" in costs(ROOT, tmp_path)
    (tmp_path / "costs").mkdir()
    for name, seconds, memory in (("train-a-seed0", 12.4, 900), ("train-b-seed0", 20.6, 1200), ("book", 30.0, 400)):
        (tmp_path / "costs" / f"{name}.tsv").write_text(f"s\tmax_rss\n{seconds}\t{memory}\n")
    lines = costs(ROOT, tmp_path).splitlines()
    assert lines[2:] == ["| book | 1 | 30 | 400 |", "| train | 2 | 12 to 21 | 1,200 |"]


def test_ideas_are_read_from_their_records(tmp_path):
    assert "no published record" in ideas(tmp_path, tmp_path)
    folder = tmp_path / "results" / "ideas"
    folder.mkdir(parents=True)
    record = {"title": "Bigger", "hypothesis": "More is more.", "rows": [{"arm": "big", "gain": -0.1}]}
    record["script"] = {"path": "benchmarks/big.py", "commit": "0123456789"}
    (folder / "bigger.json").write_text(json.dumps(record))
    page = ideas(tmp_path, tmp_path)
    assert "## Bigger" in page and "More is more." in page and "| big | -0.1 |" in page
    assert "bigger.json" in page and "`benchmarks/big.py` at commit `01234567`" in page


def test_the_reference_names_every_module_in_the_order_of_the_layers(tmp_path):
    named = re.findall(r"automodule:: (\S+)", api(ROOT, tmp_path))
    package = ROOT / "storylib"
    files = [path for path in package.rglob("*.py") if not path.name.startswith("_")]
    files = [path for path in files if "storyworld" not in path.parts and path.stem != "config"]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    assert modules <= set(named)
    assert "storylib.sources.storyworld" in named and len(named) == len(set(named))
    layers = list(dict.fromkeys(name.split(".")[1] for name in named))
    assert layers == LAYERS


def test_an_unknown_page_is_an_error(tmp_path):
    with pytest.raises(KeyError, match="nonsense"):
        fill("<!-- generated: nonsense -->", ROOT, tmp_path)


def test_clusters_and_colab_are_read_from_their_records(tmp_path):
    assert "no published" in clusters(tmp_path, tmp_path) and "no published" in colab(tmp_path, tmp_path)
    (tmp_path / "results").mkdir()
    jobs = {"train-a": {"seconds": 12.2, "memory_mb": 900}, "evaluate-a": {"seconds": 3.0, "memory_mb": 1100}}
    record = {"command": "c", "scheduler": "slurm 1", "cores": 2, "seconds": 20.4, "jobs": jobs}
    (tmp_path / "results" / "cluster-slurm.json").write_text(json.dumps(record))
    assert "| `c` | slurm 1, 2 cores | 2 | 20 | 3 to 12 | 1,100 |" in clusters(tmp_path, tmp_path)
    row = {"notebook": "02_train", "seconds": 99.6, "installed": ["a-1", "b-2"], "torch": "2.9"}
    record = {"cores": 2, "python": "3.11.2", "notebooks": [row]}
    (tmp_path / "results" / "colab.json").write_text(json.dumps(record))
    assert "| `02_train` | 100 | 2 | 2.9 |" in colab(tmp_path, tmp_path)
