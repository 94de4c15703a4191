"""One way through the house: a module imports only from those before it, and a configuration costs no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import storylib

PACKAGE = Path(storylib.__file__).parent
ORDER = (
    "config cache pictures stories download sources encoders boundary features parallel perception losses decoders "
    "pretraining image_decoders model training metrics leaks statistics protocol ngrams floors judges evaluation "
    "attention scores prediction runs comparison ablation sweeps presets findings difficulty attributes plots costs "
    "cost_figures audit gallery your_story runner reference book workflow __main__"
).split()


def module_of(path: Path) -> str:
    """The line of DESIGN's list that a file belongs to: a package counts as one."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.Module) -> set[str]:
    """Modules of storylib that some code imports, anywhere in it, but not what only a program does (python -m)."""
    program = "__name__ == '__main__'"
    tree.body = [n for n in tree.body if not (isinstance(n, ast.If) and ast.unparse(n.test) == program)]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "storylib" else [node.module]
        else:
            continue
        found |= {n.split(".")[1] for n in map(str, names) if n.startswith("storylib.")}
    return found


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def test_the_order_names_every_module_and_no_other():
    assert set(ORDER) == {module_of(p) for p in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_point_upwards(path):
    own = module_of(path)
    for other in imported(ast.parse(path.read_text(encoding="utf-8"))):
        assert other in ORDER, f"{own} imports {other}, which is no module"
        assert ORDER.index(other) < ORDER.index(own) or other == own, f"{own} imports {other}, which comes after it"


def test_the_check_sees_every_kind_of_import():
    code = "import storylib.runs\nfrom storylib import plots as p\nfrom storylib.config import Config\ndef f():\n  "
    assert imported(ast.parse(code + "from storylib.book import x")) == {"runs", "plots", "config", "book"}


def test_a_configuration_costs_no_torch():
    code = (
        "import sys, storylib; storylib.configure(); storylib.seeds('quick'); "
        "heavy = {'torch', 'transformers', 'pandas', 'matplotlib', 'scipy'} & set(sys.modules); print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in storylib.__all__:
        assert getattr(storylib, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        storylib.trian  # noqa: B018
