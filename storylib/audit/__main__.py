"""Run the audit's ladders and publish their record, or draw the figure of a published one.

python -m storylib.audit --source african_storybook --profile full   results/audit/african_storybook-full.json
python -m storylib.audit --figure book/images/audit.svg              from the published record, in seconds

A killed run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from storylib.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m storylib.audit", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", default="african_storybook")
    parser.add_argument("--profile", default="full", help="an entry of audit in experiments.yml")
    parser.add_argument("--figure", type=Path, help="only draw the published record, into this SVG")
    parser.add_argument("--output", type=Path, help="another place for the record")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)

    from storylib import plots
    from storylib.ablation import to_publish
    from storylib.audit import figure, record
    from storylib.runs import RunError, publishable
    from storylib.sources import SourceError
    from storylib.training import cpu_threads

    try:
        if options.figure:
            drawing = figure.slopes(record.published(options.source, options.profile))
            plots.save(drawing, options.figure.stem, options.figure.parent)
            return 0
        if not options.output:
            publishable()
        with cpu_threads(1):
            made = record.run(options.source, options.profile)
    except (ConfigError, SourceError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = options.output or to_publish("audit", options.source, options.profile)
    record.save_record(made, path)
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
