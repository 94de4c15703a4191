"""The one thing pyproject.toml cannot say: experiments.yml lies in the project's root and travels inside the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPlan(build_py):
    """Copy the plan beside the modules, where ``storylib.config`` looks when there is no checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            shutil.copy("experiments.yml", Path(self.build_lib) / "storylib" / "experiments.yml")


setup(cmdclass={"build_py": BuildWithPlan})
