"""What made a record: commit, versions, machine and peak memory."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from storylib import __version__
from storylib.config import project_root

PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "timm", "numpy", "pandas")


class RunError(RuntimeError):
    """A run or record that does not exist, is not finished, or cannot be compared or published."""


def provenance(device: str) -> dict[str, Any]:
    """Commit, versions, machine and peak memory (MB of 2^20 bytes) of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS, kilobytes elsewhere
    torch = sys.modules.get("torch")  # a record that needs no torch does not import it for this
    threads = torch.get_num_threads() if torch else os.cpu_count() or 1
    return {
        "commit": _git("rev-parse", "HEAD") or "unknown",
        "dirty": bool(_git("status", "--porcelain", "--", ".", ":(exclude)results")),  # records change no result
        "python": platform.python_version(),
        "versions": {package: version(package) for package in PACKAGES} | {"storylib": __version__},
        "device": device,
        "machine": f"{platform.system()} {platform.machine()}, {threads} threads",
        "peak_memory_mb": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }


def publishable() -> dict[str, Any]:
    """``provenance`` of a record to be published. Raises RunError if there are uncommitted changes."""
    state = provenance("cpu")
    if state["dirty"]:
        raise RunError("There are uncommitted changes, so this record could not be reproduced. Commit them first.")
    return {key: state[key] for key in ("commit", "dirty", "python", "versions", "machine")}


def origin(record: Mapping[str, Any] | None = None) -> str:
    """A line of Markdown: whether what follows was executed in this build or comes from a published record."""
    if record is None:
        return "● *Executed in this build.*"
    facts = [record[key] for key in ("source", "profile", "preset") if key in record and record[key] != "storyteller"]
    if "seeds" in record:
        facts.append(f"{len(record['seeds'])} seed" + "s" * (len(record["seeds"]) != 1))
    if "commit" in record:
        facts.append(f"commit `{record['commit'][:8]}`")
    return f"○ *Published record, not executed here: {', '.join(facts)}.*"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=project_root(), capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
