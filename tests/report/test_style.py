"""Every figure is described, transparent, and saved as the same SVG every time."""

from __future__ import annotations

import ast
import importlib
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from storylib.report import style

ODD = """The "fox" paid $5 & $6, said <script>alert('x')</script> 100 % of_the time^2 \\alpha {x} — été."""
MODULES = sorted(Path(style.__file__).parent.glob("figures_*.py"))


@pytest.fixture(autouse=True)
def _figures(monkeypatch, tmp_path):
    monkeypatch.setenv("STORYLIB_FIGURES", str(tmp_path))
    yield
    plt.close("all")


def drawing(alt="", caption=""):
    figure, ((axis,),) = style.subplots(1, 1, (3, 2))
    axis.plot([1, 2])
    axis.set(title="apples", xlabel="day")
    return style.save(style.describe(figure, alt, caption), "odd")


def test_a_saved_figure_carries_its_description_and_is_reproducible(tmp_path):
    open_before = plt.get_fignums()  # by another test
    saved = drawing(ODD, "What to see.")
    data, metadata = saved._repr_mimebundle_()
    alt = " ".join(ODD.split())
    assert metadata["image/svg+xml"] == {"alt": alt, "caption": "What to see.", "name": "odd"}
    root = ET.fromstring(data["image/svg+xml"])
    assert root.get("role") == "img" and root.get("aria-label") == alt
    first = (tmp_path / "odd.svg").read_bytes()
    assert drawing(ODD, "What to see.").svg == saved.svg and (tmp_path / "odd.svg").read_bytes() == first
    assert b"<text" in first and plt.get_fignums() == open_before


def test_figures_are_transparent():
    figure, _ = style.subplots(1, 1, (3, 2))
    assert figure.patch.get_facecolor()[3] == 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_every_figure_is_described(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    figures = [
        f for f in tree.body if isinstance(f, ast.FunctionDef) and f.returns and ast.unparse(f.returns) == "Figure"
    ]
    undescribed = [f.name for f in figures if "return describe(" not in ast.unparse(f)]
    assert figures and not undescribed
    importlib.import_module(f"storylib.report.{path.stem}")


def test_text_is_large_enough_and_in_ink():
    figure, ((axis,),) = style.subplots(1, 1, (3, 2))
    axis.text(0, 0, "tiny", fontsize=5, color="#f0e442")
    svg = style.save(style.describe(figure, "a", "b"), "ink").svg
    tiny = re.search(r'<text style="([^"]*)"[^>]*>tiny<', svg)[1]
    assert f"{style.SMALLEST}px" in tiny and style.INK in tiny and "f0e442" not in svg


@pytest.mark.parametrize(("columns", "width", "rows"), [(4, 2.4, 2), (3, 4.0, 3), (2, 6.0, None), (1, 4.0, None)])
def test_a_wide_figure_has_a_narrow_form_for_phones(tmp_path, columns, width, rows):
    figure, axes = style.panels(columns, columns, (width, 2), sharey=True)
    style.save(style.describe(figure, "a", "b"), "wide")
    assert (tmp_path / "wide-phone.svg").exists() == (rows is not None)
    if rows:
        root = ET.parse(tmp_path / "wide-phone.svg").getroot()
        assert (root.get("width"), root.get("height")) == (f"{style.PHONE * 72:g}pt", f"{rows * 2 * 72}pt")
        assert ET.parse(tmp_path / "wide.svg").getroot().get("width") == f"{width * columns * 72:g}pt"
        assert all(axis.yaxis.get_major_ticks()[0].label1.get_visible() for axis in axes)


def test_panels_are_as_many_as_asked():
    figure, axes = style.panels(4, 3, (2, 2))
    assert len(axes) == len(figure.axes) == 4
