"""Fuzz the parser of StoryReasoning's markup, guided by coverage: never an exception, never a hang, never a tag left.

    pip install atheris
    python -m benchmarks.fuzz_markup [--minutes 10] [--record results/benchmarks/fuzz_markup.json]

Inputs are texts built from pieces of markup and of free Unicode, chosen by libFuzzer's bytes, up to 4,096 of them. An
input that takes more than twenty seconds is a hang: the parser is linear, these are short, and a busy machine alone can
make one wait for some.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

try:
    import atheris
except ImportError:
    sys.exit("This needs atheris, a fuzzer for Linux and macOS: pip install atheris")

with atheris.instrument_imports(include=["storylib.sources.story_reasoning"]):
    from storylib.sources.story_reasoning import parse_analysis, parse_story

from storylib.config import project_root
from storylib.pictures import write_atomically
from storylib.runs import provenance

SECONDS, LENGTH = 20, 4096
TAG = re.compile(r"<[\s/!?]*[a-z]", re.IGNORECASE)
PIECES = (
    "<gdi image1>", "<gdi image2>", "<gdi image9>", "<GDI Image 3>", "<gdi", "</gdi>", "< / gdi >", "<gdo char1>",
    "<gdo char1 obj2>", "</gdo>", "<gda char1>", "</gda>", "<gdl bg1>", "<gdl lm2>", "</gdl>", "<", ">", "/", "&lt;",
    "&amp;lt;", "&#60;", "&#x3C", "&amp;", "<!--", "-->", "<b>", "<script>", "## Image 1\n", "## image 2\n",
    "### Characters\n", "### Objects\n", "### Setting\n", "| Character ID | Name | Bounding Box |\n", "|---|---|---|\n",
    "| char1 | Ann | [1, 2, 3, 4] |\n", "|", "\\|", "\n", "\x00", "\u200b", "\ud800", "Ann said", " ",
)  # fmt: skip


def text_of(data: bytes) -> tuple[str, int]:
    """A text and a number of pictures from the fuzzer's bytes."""
    provider = atheris.FuzzedDataProvider(data)
    images, parts = provider.ConsumeIntInRange(0, 8), []
    while provider.remaining_bytes():
        choice = provider.ConsumeIntInRange(0, len(PIECES) + 9)
        parts.append(PIECES[choice] if choice < len(PIECES) else provider.ConsumeUnicode(choice - len(PIECES) + 1))
    return "".join(parts), images


def check(data: bytes) -> None:
    """Parse one input; an assertion or any other exception is a finding."""
    markup, images = text_of(data)
    frames, tables = parse_story(markup, images), parse_analysis(markup, images)
    assert len(frames) == len(tables) == images
    texts = [f.text for f in frames] + [m["text"] for f in frames for m in f.entities + f.actions + f.places]
    texts += [v for t in tables for k in ("characters", "objects", "setting") for r in t[k] for v in r.values()
              if isinstance(v, str)]  # fmt: skip
    for text in texts:
        assert not TAG.search(text), f"a tag is left: {text!r}"
        text.encode()


def fuzz(folder: Path, seconds: int) -> None:
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={SECONDS}",
        f"-max_len={LENGTH}",
        "-seed=1",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(folder / "corpus")], check)
    with (folder / "log").open("w") as log:
        os.dup2(log.fileno(), 2)  # libFuzzer speaks to the second stream only
        atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--record", type=Path, default=project_root() / "results/benchmarks/fuzz_markup.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "corpus").mkdir()
        print(f"Fuzzing for {options.minutes:g} minutes ...", flush=True)
        started = time.perf_counter()
        process = multiprocessing.Process(target=fuzz, args=(folder, round(60 * options.minutes)))
        process.start()  # of its own, because libFuzzer ends the process it runs in
        process.join()
        log = (folder / "log").read_text(errors="replace")
        runs = re.search(r"stat::number_of_executed_units: (\d+)", log)
        found = [p for p in folder.iterdir() if p.name.startswith(("crash-", "timeout-", "oom-"))]
        for path in found:
            print(f"{path.name}: {text_of(path.read_bytes())!r}")
        if runs is None:
            print(log[-2000:])
        coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
        record = {
            "minutes": round((time.perf_counter() - started) / 60, 2),
            "inputs": int(runs[1]) if runs else None,
            "corpus": len(list((folder / "corpus").iterdir())),
            "edges": int(coverage[-1][0]) if coverage else None,
            "exceptions": sum(p.name.startswith("crash-") for p in found),
            "hangs": log.count("ALARM: working on the last Unit"),
            "longest_input_bytes": LENGTH,
            "atheris": version("atheris"),
            **provenance("cpu"),
        }
    options.record.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.record, json.dumps(record, indent=2) + "\n")
    print(json.dumps({k: record[k] for k in ("minutes", "inputs", "corpus", "edges", "exceptions", "hangs")}))
    return 1 if found or runs is None else 0


if __name__ == "__main__":
    sys.exit(main())
