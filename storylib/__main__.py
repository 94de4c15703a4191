"""The stages as commands, joined by files: ``python -m storylib features | train | evaluate``. See the Snakefile."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

from storylib.config import ConfigError, configure


def file_digest(path: Path) -> str:
    """So that a receipt changes if and only if the result did."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def setting(text: str) -> tuple[str, Any]:
    """NAME=VALUE; a value that reads as a number, true, false or null is one, everything else a text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, as in epochs=20")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m storylib", description=__doc__)
    parser.add_argument("stage", choices=["features", "train", "evaluate"])
    parser.add_argument("--source", default="storyworld")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--preset", help="a preset of experiments.yml")
    parser.add_argument("--arm", help="an arm of experiments.yml")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--set", nargs="+", default=[], type=setting, metavar="NAME=VALUE", help="fields of the configuration"
    )
    parser.add_argument("--receipt", type=Path, help="write a small JSON file here when done")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "absl", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)

    from storylib import runs  # torch takes seconds to import; a wrong option should not wait for it
    from storylib.download import DownloadError
    from storylib.encoders import EncoderError
    from storylib.pictures import PictureError, write_atomically
    from storylib.sources import SourceError

    try:
        chosen = {"source": options.source, "seed": options.seed, "device": options.device}
        config = configure(options.profile, options.arm, options.preset, **(chosen | dict(options.set)))
        data = runs.prepare(config)
        receipt = {"features": data.features.fingerprint, "stories": len(data.stories)}
        if options.stage != "features":
            run = runs.train(config, data)
            receipt |= {"run": run.id, "weights": file_digest(run.path / "model.safetensors")}
            if options.stage == "evaluate":
                runs.evaluate_run(run, data)
                receipt["metrics"] = file_digest(run.path / "metrics.json")
    except (ConfigError, SourceError, PictureError, DownloadError, EncoderError, runs.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.receipt:
        write_atomically(options.receipt, json.dumps(receipt, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
