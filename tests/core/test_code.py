"""The code fingerprint: it changes with what the code does, not with its comments or where results are kept."""

from __future__ import annotations

import shutil

import pytest

from storylib.data import code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit: package("losses.py", old, new) replaces one place of a file."""
    shutil.copytree(code.PACKAGE, tmp_path / "storylib", ignore=shutil.ignore_patterns("__pycache__", "bundled"))
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "storylib")

    def edit(file, old, new):
        path = tmp_path / "storylib" / file
        text = path.read_text(encoding="utf-8")
        assert text.count(old) >= 1
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        forget()

    forget()
    yield edit
    forget()


def forget():
    for function in (code.code_fingerprint, code._imports, code._syntax):
        function.cache_clear()


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("losses.py", "from __future__", "# A remark.\n\nfrom __future__"),
        ("losses.py", '"""Every training loss', '"""All of the losses'),
        (
            "model.py",
            "def _scale(log_scale: Tensor) -> Tensor:\n",
            "def _scale(\n    log_scale: Tensor,\n) -> Tensor:\n",
        ),
        ("config.py", "LIMITS |=", "CONSTANT = 1\nLIMITS |="),
        ("data/store.py", 'SUMS = "SHA256SUMS"', 'SUMS = "SUMS"'),
    ],
    ids=["comment", "docstring", "layout", "config", "store"],
)
def test_what_changes_no_result_changes_no_fingerprint(package, file, old, new):
    """Defaults of the configuration are in a run's identity, and the store only says where files are."""
    before = code.code_fingerprint("training")
    package(file, old, new)
    assert code.code_fingerprint("training") == before


@pytest.mark.parametrize(
    ("modules", "file", "old", "new"),
    [
        (["training"], "training.py", "fused=True", "fused=False"),
        (["training"], "losses.py", "F.l1_loss", "F.mse_loss"),
        (["training"], "metrics/retrieval.py", "1 + better", "2 + better"),
        (["data.encoders"], "data/pictures.py", "def thumbnail(", "def thumbnail_(picture, size): ...\ndef thumbnail("),
        (["evaluation"], "metrics/frechet.py", "import", "import this\nimport"),
        (["evaluation", "metrics.summary"], "metrics/summary.py", "class ScoreError", "x = 1\n\n\nclass ScoreError"),
    ],
    ids=["itself", "losses", "metrics", "pictures", "columns", "summary"],
)
def test_a_changed_statement_in_an_imported_module_changes_the_fingerprint(package, modules, file, old, new):
    before, unrelated = code.code_fingerprint(*modules), code.code_fingerprint("data.device")
    package(file, old, new)
    assert code.code_fingerprint(*modules) != before and code.code_fingerprint("data.device") == unrelated


def test_the_order_of_modules_does_not_matter_and_each_counts():
    one, two = code.code_fingerprint("losses"), code.code_fingerprint("metrics.text")
    both = code.code_fingerprint("losses", "metrics.text")
    assert both == code.code_fingerprint("metrics.text", "losses") and len({one, two, both}) == 3
    assert len(both) == 12 and int(both, 16) >= 0
