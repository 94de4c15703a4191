"""Imports run one way, and what only reads records or builds the book loads neither torch nor other slow libraries."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storylib.config import LAYERS

PACKAGE = Path(__file__).parents[1] / "storylib"
FILES = sorted(PACKAGE.rglob("*.py"))
ORDER = [*LAYERS, "__main__"]

# Libraries that are imported inside the function that uses them. A base class has to be there at the top.
SLOW = {"transformers", "datasets", "timm", "torchmetrics", "scipy.stats", "nltk", "huggingface_hub", "accelerate"}
SLOW |= {"nbformat", "papermill"}  # both bring jsonschema
BASE_CLASSES = {("experiments/storyteller.py", "huggingface_hub")}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """The dotted modules that some statements import; ``from a import b`` counts as a and as a.b."""
    modules = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
            modules |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def at_the_top(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        only_for_types = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if not only_for_types and not isinstance(node, ast.FunctionDef | ast.Lambda):
            yield node
            yield from at_the_top(node)


def test_the_layers_name_every_module():
    assert set(ORDER) == {layer_of(path) for path in FILES} - {"__init__"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_module_imports_only_from_the_layers_before_its_own(path):
    modules = imported(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    layers = {name.split(".")[1] for name in modules if name.startswith("storylib.")} - {"__version__"}
    own = ORDER.index(layer_of(path)) if path.parent != PACKAGE or path.stem != "__init__" else -1
    for layer in layers - {layer_of(path)}:
        assert layer in ORDER and ORDER.index(layer) < own, f"{name_of(path)} imports {layer}, which comes after it"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_imports_a_slow_library_at_its_top(path):
    modules = imported(at_the_top(ast.parse(path.read_text(encoding="utf-8"))))
    slow = {library for library in SLOW for name in modules if f"{name}.".startswith(f"{library}.")}
    assert {library for library in slow if (name_of(path), library) not in BASE_CLASSES} == set()


def test_the_checks_see_every_kind_of_import():
    code = "import storylib.losses\nfrom storylib import model as m\nif TYPE_CHECKING:\n  import nltk\ndef f():\n  "
    tree = ast.parse(code + "from storylib.report.book import x")
    assert imported(ast.walk(tree)) >= {"storylib.losses", "storylib.model", "storylib.report.book", "nltk"}
    assert not {"nltk", "storylib.report.book"} & imported(at_the_top(tree))


def reads_only(path: Path) -> bool:
    """Modules that must load without torch: configuration, records, studies, the report, metrics without tensors."""
    if path.parent.name == "metrics":
        return "torch" not in imported(at_the_top(ast.parse(path.read_text(encoding="utf-8"))))
    if path.parent.name == "experiments":
        return path.stem not in ("runs", "storyteller")
    return path.parent.name == "report" or path.stem == "config"


def test_reading_records_and_building_the_book_load_no_torch():  # seaborn brings scipy.stats
    modules = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in filter(reads_only, FILES)]
    assert "storylib.report.book" in modules and "storylib.metrics.summary" in modules
    code = f"import importlib, sys\nfor name in {modules}:\n  importlib.import_module(name)\n"
    code += f"  loaded = {SLOW - {'scipy.stats'} | {'torch'}} & set(sys.modules)\n  assert not loaded, (name, loaded)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr.splitlines()[-1]


def test_a_configuration_loads_no_numerical_library():
    code = "import sys; from storylib.config import configure; configure(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "pandas", "matplotlib", "scipy"} & set(done.stdout.split())
