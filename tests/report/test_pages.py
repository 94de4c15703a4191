"""The generated pages say what the notebooks, the configuration and the records say."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from storylib.config import LAYERS, Config, project_root
from storylib.report.notebooks import declared_parameters
from storylib.report.pages import api, fields, fill, ideas, parameters, table

ROOT = project_root()


def test_every_parameter_of_every_notebook_is_there_with_its_default():
    page = fill("a\n<!-- generated: parameters -->\nb", ROOT)
    assert page.startswith("a\n### ") and page.endswith("|\nb")
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        section = parameters(ROOT).partition(f"`{notebook.name}`")[2].partition("###")[0]
        rows = dict(line.split(" | ")[:2] for line in section.splitlines() if line.startswith("| `"))
        assert rows == {f"| `{name}`": f"`{value!r}`" for name, value in declared_parameters(notebook).items()}


def test_every_field_of_the_configuration_is_there_with_its_default():
    page = fields(ROOT)
    for part in dataclasses.fields(Config()):
        for field in dataclasses.fields(getattr(Config(), part.name)):
            default = getattr(getattr(Config(), part.name), field.name)
            assert f"| `{field.name}` | `{default!r}` |" in page
    assert "| `width` | `256` | shared space, fused state and temporal state |" in page


def test_bars_do_not_break_a_table():
    assert table(["a"], [["one | two"]]).splitlines()[2] == r"| one \| two |"


def test_ideas_are_read_from_their_records(tmp_path):
    folder = tmp_path / "results" / "ideas"
    folder.mkdir(parents=True)
    assert "no published record" in ideas(tmp_path, "bigger")
    record = {"rows": [{"arm": "big", "gain": -0.1}], "script": {"path": "benchmarks/big.py", "commit": "0123456789"}}
    (folder / "bigger.json").write_text(json.dumps(record))
    page = fill("<!-- generated: ideas bigger -->", tmp_path)
    assert "| big | -0.1 |" in page and "bigger.json" in page and "uncommitted" not in page
    assert "`benchmarks/big.py` at commit `01234567`" in page
    (folder / "bigger.json").write_text(json.dumps(record | {"provenance": {"dirty": True}}))
    assert "uncommitted changes" in ideas(tmp_path, "bigger")


@pytest.mark.parametrize(
    ("change", "bold"),
    [("+0.010 (+0.003 to +0.021)", True), ("-0.230 (-0.256 to -0.204)", True), ("+0.006 (-0.204 to +0.243)", False),
     ("+0.001 (+0.000 to +0.001)", False), ("-0.002 (-0.004 to -0.000)", False)],
)  # fmt: skip
def test_a_change_is_bold_if_its_interval_excludes_zero(change, bold, tmp_path):
    rows = [{"source": "here", "idea": idea, "score": "1", "score − default": change} for idea in ("default", "big")]
    record = {"rows": rows, "script": {"path": "a.py", "commit": "0123456789"}}
    (tmp_path / "results" / "ideas").mkdir(parents=True)
    (tmp_path / "results" / "ideas" / "a.json").write_text(json.dumps(record))
    head, _, *lines = ideas(tmp_path, "a").partition("\n\n")[0].splitlines()
    shown = f"**{change}**" if bold else change
    assert head == "| source | idea | score − default |" and lines == [f"| here | big | {shown} |"]


def test_every_record_of_an_idea_is_on_its_page():
    page = (ROOT / "book" / "negative_results.md").read_text()
    records = {path.stem for path in (ROOT / "results" / "ideas").glob("*.json")}
    assert records and set(re.findall(r"generated: ideas (\w+)", page)) == records


def test_the_reference_names_every_module_in_the_order_of_the_layers():
    named = re.findall(r"automodule:: (\S+)", api(ROOT))
    package = ROOT / "storylib"
    files = [path for path in package.rglob("*.py") if not path.name.startswith("_")]
    files = [path for path in files if "storyworld" not in path.parts and path.stem != "config"]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files}
    assert modules <= set(named)
    assert "storylib.sources.storyworld" in named and len(named) == len(set(named))
    layers = list(dict.fromkeys(name.split(".")[1] for name in named))
    assert layers == LAYERS


def test_an_unknown_page_is_an_error():
    with pytest.raises(KeyError, match="nonsense"):
        fill("<!-- generated: nonsense -->", ROOT)
