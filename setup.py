"""What pyproject.toml cannot say: the wheel contains experiments.yml and the records of results/."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithPlan(build_py):
    """Copy them into the package, where storylib looks when there is no checkout."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "storylib"
            shutil.copy("experiments.yml", package / "experiments.yml")
            if Path("results").is_dir():  # published records: pages read them
                shutil.copytree("results", package / "results", dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithPlan})
