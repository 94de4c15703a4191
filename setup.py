"""What pyproject.toml cannot say: experiments.yml and the records of results/ travel inside the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPlan(build_py):
    """Copy them beside the modules, where storylib looks when there is no checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "storylib"
            shutil.copy("experiments.yml", package / "experiments.yml")
            for kind in ("ablation", "audit", "benchmarks", "presets", "sweeps"):  # what pages read and do not make
                if Path("results", kind).is_dir():
                    shutil.copytree(Path("results", kind), package / "results" / kind, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPlan})
