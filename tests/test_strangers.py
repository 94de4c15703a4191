"""Files, names and machines of strangers: every case in which storylib once failed, and what happens with it now.

Read ``CASES`` as a table. A row has the case, what is given, what is done with it, and what happens: a value, or the
pattern of a message. "error: ..." is the one sentence that a user sees, "log: ..." what is logged meanwhile.
Given are the files of a folder called IN by their names, or a text. The last test gives random names.
"""

from __future__ import annotations

import codecs
import csv
import errno
import gc
import html
import io
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any
from unicodedata import normalize

import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer
from conftest import StubEncoder, noise, tiny_config, use_stub_encoders
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image, PngImagePlugin

from storylib.__main__ import app, main
from storylib.config import build_name, configure, experiments, project_root, runs_dir
from storylib.data.features import encode
from storylib.data.pictures import open_picture
from storylib.experiments import runs
from storylib.experiments.records import load_run
from storylib.metrics.text import bleu_counts, bleu_from_counts, chrf, cider_d, meteor, rouge_l
from storylib.report import gallery
from storylib.report.notebooks import run_notebook
from storylib.report.your_story import read_context
from storylib.sources import absolute_source, load_stories, one_line, source_fingerprint

# What is given. A text is a text file, a picture or an Arrow table is stored as such, a Path is linked to.

Files = dict[str, Any]
PICTURES: Files = {f"p/{number}.png": noise(number) for number in range(1, 5)}
HEAD = "file_name,text,story_id,position\n"
PAGES = HEAD + "\n".join(f"p/{number}.png,Text {number},mira,{number}" for number in range(1, 5))
FOUR = {number: f"Text {number}" for number in range(1, 5)}
WITHOUT_2 = {1: "Text 1", 3: "Text 3", 4: "Text 4"}


def table(content: str = PAGES, name: str = "metadata.csv", encoding: str = "utf-8") -> Files:
    """A table beside four pictures."""
    return PICTURES | {name: content.encode(encoding)}


def changed_text(*pairs: str) -> str:
    """The table of four pages, in which each first text of a pair is replaced by the second."""
    content = PAGES
    for old, new in zip(pairs[::2], pairs[1::2], strict=True):
        content = content.replace(old, new)
    return content


def changed(*pairs: str, encoding: str = "utf-8") -> Files:
    return table(changed_text(*pairs), encoding=encoding)


def lines_of_json(text: str) -> Files:
    """Two pages, the second with a text that is given as JSON."""
    pages = ((1, '"Text 1"'), (2, text))
    rows = [f'{{"file_name": "p/{n}.png", "text": {value}, "story_id": "mira", "position": {n}}}' for n, value in pages]
    return table("\n".join(rows), "metadata.jsonl")


def jpeg(seed: int) -> dict[str, Any]:
    file = io.BytesIO()
    noise(seed, (24, 16)).save(file, "JPEG")
    return {"bytes": file.getvalue(), "path": None}


def albums(*texts: Any, **columns: Any) -> pa.Table:
    """A data set with a story of two pictures for each of the texts, and further columns."""
    pictures = [[jpeg(10 * row), jpeg(10 * row + 1)] for row in range(len(texts))]
    return pa.table({"pics": pictures, "caps": list(texts)} | columns)


def single_rows(**columns: list[Any]) -> pa.Table:
    """A data set with one picture per row."""
    return pa.table({"pics": [jpeg(row) for row in range(len(columns["caps"]))]} | columns)


TWO = ["Page 1.", "Page 2."]
SIX_DAYS = "walks to the lamp|sees a boat|finds the heron|takes a stone|crosses the river|comes home".split("|")


def stories(count: int, picture: Callable[[int], Image.Image], text: str = "", frames: int = 6) -> Files:
    """Some stories with a picture by its number and six different texts, or one text everywhere."""
    files: Files = {}
    rows = []
    for number in range(count * frames):
        story, page = divmod(number, frames)
        files[f"{number}.png"] = picture(number)
        rows.append(f"{number}.png,{text or f'Mira {SIX_DAYS[page]} {story}.'},s{story},{page + 1}")
    return files | {"metadata.csv": HEAD + "\n".join(rows)}


def png_with_large_chunks() -> bytes:
    """A prompt of 20 MB, as image generators write it, and a colour profile of 5 MB."""
    info, file = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_text("prompt", "x" * 20_000_000, zip=True)
    noise(1, (80, 60)).save(file, "PNG", pnginfo=info, icc_profile=bytes(5_000_000))
    return file.getvalue()


def named(*names: str, table: str = "{}") -> Files:
    """Pictures with some names, and a table that has these names, perhaps written in another way."""
    rows = [f'"{table.format(name)}",Text {number},mira,{number}' for number, name in enumerate(names, 1)]
    return {name: noise(number) for number, name in enumerate(names, 1)} | {"metadata.csv": HEAD + "\n".join(rows)}


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


RED, BLUE = Image.new("RGB", (8, 8), (200, 30, 60)), Image.new("RGB", (8, 8), "blue")
MAC = b"what a Mac writes beside a file"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
LINES = "A fox wakes. | She runs. | It rains. | She hides."
AMHARIC = "ትንሽ ጀልባ ወደ ደሴቱ"

# What is done.


class World:
    """A folder IN with the given files, and the tools of a test."""

    def __init__(self, tmp_path: Path, patch: Any, log: Any, output: Any, given: Any) -> None:
        self.folder, self.patch, self.log, self.output, self.given = tmp_path / "IN", patch, log, output, given
        self.folder.mkdir()
        patch.chdir(tmp_path)
        patch.setenv("STORYLIB_CACHE", str(tmp_path / "cache"))
        patch.setenv("STORYLIB_RUNS", str(tmp_path / "runs"))
        for name, content in given.items() if isinstance(given, dict) else ():
            write(self.folder / name, content)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Image.Image):
        content.save(path, None if path.suffix else "PNG")
    elif isinstance(content, pa.Table):
        pq.write_table(content, path)
    elif isinstance(content, Path):
        path.symlink_to(path.parent / content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def load(world: World, source: str = "folder:IN", strict: bool = False) -> Any:
    """The texts of the only story, by position."""
    (story,) = load_stories(source, strict=strict)
    return {frame.number: frame.text for frame in story.frames}


def load_strictly(world: World) -> Any:
    return load(world, strict=True)


def from_source(source: str) -> Callable[[World], Any]:
    return partial(load, source=source, strict=True)


def load_albums(world: World, options: str = "", strict: bool = False, place: str = "IN") -> list[Any]:
    """Id, split and positions of each story."""
    loaded = load_stories(f"hugging_face:{place}?images=pics&texts=caps{options}", strict=strict)
    return [(story.id, story.split, [frame.number for frame in story.frames]) for story in loaded]


def logged(done: Callable[[World], Any]) -> Callable[[World], str]:
    """The log instead of the result."""
    return lambda world: f"log: {done(world) and ''}{world.log.text}"


def command(world: World, verb: str, *options: str) -> str:
    """What a command of storylib says: its error, or that it is done. It takes small encoders and settings."""
    image_encoder = use_stub_encoders(world.patch)["image"]
    image_encoder.__init__("stub-image", 1280)  # type: ignore[misc]
    image_encoder.matrix[:, ::2] = 0  # like many features of real encoders: the covariance has a low rank
    settings = "width=16 image_size=16 text_length=16 batch_size=8 epochs=1 pretraining=0 feature_weight=0.0".split()
    parts = [part for setting in [*settings, "image_decoder=upsampling"] for part in ("--set", setting)]
    code = main([verb, "--source", "folder:IN", "--device", "cpu", *parts, *options])
    errors = [line for line in world.output.readouterr().err.splitlines() if line.startswith(("error", "Traceback"))]
    assert (code, len(errors)) in ((0, 0), (2, 1))
    assert not errors or not image_encoder.seen, "an error is said before any work"
    return errors[0] if errors else "done"


def evaluate(world: World) -> str:
    """Train and score; a metric that is no number is an error."""
    said = command(world, "evaluate")
    for record in runs_dir().glob("*/metrics.json"):
        for name, metric in json.loads(record.read_text())["metrics"].items():
            assert all(map(math.isfinite, [metric["value"], *metric["interval"], *metric["baselines"].values()])), name
        said = "every metric is a number"
    return said


def features_command(*options: str) -> Callable[[World], str]:
    return lambda world: command(world, "features", *options)


def every_command_in_an_ascii_locale(world: World) -> str:
    """What each command says where file names are read as ASCII."""
    world.patch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    codes = [main([verb]) for verb in (*typer.main.get_command(app).commands, "--help")]  # type: ignore[attr-defined]
    output = world.output.readouterr()
    (said,) = set(output.err.splitlines())
    assert set(codes) == {2} and not output.out
    return said


def pixel(world: World) -> Any:
    """The first pixel of the only picture."""
    (path,) = world.folder.iterdir()
    return open_picture(path).getpixel((0, 0))


def features(world: World, strict: bool = False) -> str:
    """What the features of the texts are, as the default encoder gives them."""
    world.patch.setattr("storylib.data.features.load_image_encoder", lambda *_: StubEncoder("stub-image", 24))
    loaded = load_stories("folder:IN")
    vectors = encode(loaded, image_size=8, source="folder:IN", strict=strict).text_vectors
    return "finite" if np.isfinite(vectors).all() else "not finite"


def scores(world: World, other: str = "") -> dict[str, float]:
    """Of a text, or another one, as the prediction of the text."""
    world.patch.setattr("storylib.metrics.text._wordnet", lambda: type("None", (), {"synsets": lambda *_: []}))
    written, true = [other or world.given, "..."], [world.given, "..."]
    bleu = bleu_from_counts(bleu_counts(written, true).sum(0))
    values = {"BLEU": bleu, "chrF": chrf(written, true)[0], "ROUGE": 100 * rouge_l(written, true)[0]}
    values |= {"CIDEr": 10 * cider_d(written, true)[0], "METEOR": 100 * meteor(written, true)[0]}
    return {name: round(float(value)) for name, value in values.items()}


def name_of_its_run(world: World) -> str:
    """Where the evaluated run of a source with this name is found again, below runs/."""
    config = tiny_config(source=f"folder:{world.given}")
    world.patch.setattr(runs, "stories_of", lambda data: ([], ()))
    world.patch.setattr(runs, "features_fingerprint", lambda *_: "x")
    folder = runs_dir() / runs.run_id(config, runs._data_fingerprint("x", ()))  # type: ignore[arg-type]
    for name in ("run.json", "metrics.json"):
        write(folder / name, "{}")
    run = runs.find_run(config)
    assert load_run(run.id) == run and [path.parent for path in runs_dir().rglob("run.json")] == [run.path]
    return str(run.path.relative_to(runs_dir()))


def through_make(world: World) -> str:
    """The source that `make runs SOURCE=...` hands to storylib."""
    shutil.copy(project_root() / "Makefile", "Makefile")
    write(Path(".venv/.installed"), "")
    write(Path(".venv/bin/storylib"), '#!/bin/sh\nprintf %s "$STORYLIB_SOURCE" > source.txt\n')
    Path(".venv/bin/storylib").chmod(0o755)
    make = ["make", "--old-file", ".venv/.installed", "runs", f"SOURCE={world.given}"]
    subprocess.run(make, check=True, capture_output=True)
    return Path("source.txt").read_text()


def absolute(world: World) -> str:
    """The source as the jobs of the workflow get it."""
    source = absolute_source(world.given)
    assert absolute_source(source) == source
    return source


def after(change: Callable[[Path], Any]) -> Callable[[World], str]:
    """Whether the workflow does its work again after a change of the folder."""

    def compare(world: World) -> str:
        before = source_fingerprint("folder:IN")
        change(world.folder)
        return "done again" if source_fingerprint("folder:IN") != before else "nothing to do"

    return compare


def notebook(world: World) -> str:
    """What a notebook prints whose source is relative to the folder that one stands in."""
    read = "from storylib.sources import load_stories\nprint(load_stories(source)[0].frames[0].text)"
    cells = [new_code_cell('source = "storyworld"', metadata={"tags": ["parameters"]}), new_code_cell(read)]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=metadata), "page.ipynb")
    run_notebook(Path("page.ipynb"), Path("out/page.ipynb"), {"source": "folder:IN"})
    gc.collect()
    assert "zmq" not in world.log.text  # of sockets that are left open
    outputs = nbformat.read("out/page.ipynb", as_version=4).cells[-1].outputs
    return "".join(output.text for output in outputs if output.get("name") == "stdout").strip()


def runs_below_a_file(world: World) -> str:
    world.patch.setenv("STORYLIB_RUNS", "IN/metadata.csv/runs")
    return command(world, "train")


def disk_says(number: int) -> Callable[[World], str]:
    """Training where the disk refuses every new folder."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    def train(world: World) -> str:
        world.patch.setattr(Path, "mkdir", refuse)
        return command(world, "train")

    return train


def your_story(pictures: Any = "IN", lines: Any = LINES) -> Callable[[World], Any]:
    """The size of each picture of chapter 07."""
    return lambda world: [frame.image.size for frame in read_context(pictures, lines)]  # type: ignore[union-attr]


ALL_FULL = {"BLEU": 100, "chrF": 100, "ROUGE": 100, "CIDEr": 100, "METEOR": 100}
COMMA = "file_name,story_id,position,text\np/1.png,mira,1,Text 1\np/2.png,mira,2,Text 2, said the heron\n"
NO_WINDOW = "error: A split has no window of 5 consecutive frames: give three or more stories"
BY_SPLIT = [("train-00000", "train", [1, 2]), ("train-00001", "train", [1, 2]), ("test-00000", "test", [1, 2])]
NULLS = {"train.parquet": albums(TWO, None, ["a", None])}
BOOKS = {"train.parquet": single_rows(caps=["b2", "a1", "b1"], book=["b", "a", "b"], page=[2, 1, 1])}
FOUR_NAMES = {f"page{number}.png": noise(number, (number, 20)) for number in (9, 10, 11, 12)}
COMMAS = {f"{number}, two.png": noise(number, (number, 20)) for number in (1, 2, 3, 4)}
ODD = "a b&c #d {x} [1]* ? 'q' \"q\" $HOME $(x) `x` \\ ~ é ꦏ 图;,"

Row = tuple[Any, Callable[[World], Any], Any]  # what is given, what is done, what happens
CASES: dict[str, list[Row]] = {
    # A text with commas in the last cell, without quotation marks.
    "csv_comma_in_last_column": [
        (table(COMMA), load_strictly, r"error: .*metadata\.csv, line 3 has 5 cells, more than the 4 of the head"),
        (table(COMMA), load, {1: "Text 1"}),
        (table(COMMA), logged(load), "log: .*left out: .*line 3 has 5 cells.*put a text"),
    ],
    # A quotation mark that nothing closes is blamed on its own line, and no other line is lost.
    "csv_unclosed_quote": [
        *[(changed("Text 2", bad), load_strictly, r"error: .*metadata\.csv, line 3 is not CSV .*: close the quotation")
          for bad in ('"Text 2', '"Text" 2', '"The "dog" barks"')],
        *[(changed("Text 2", bad), load, WITHOUT_2) for bad in ('"Text 2', '"Text" 2', '"The "dog" barks"')],
        (changed("Text 2", '"Text 2', "Text 3", '"Text 3"'), load, WITHOUT_2),  # the next one seems to close it
        (changed("Text 2", '"Text 2'), logged(load), "^log: (?!.*left out.*left out).*left out"),
    ],
    # Few stories, or empty, tiny and equal pictures: it trains, or one sentence says what is missing.
    "eigh_three_stories": [
        (stories(3, noise), evaluate, "every metric is a number"),
        (stories(4, lambda n: Image.new("RGB", (9, 9))), evaluate, "every metric is a number"),
        (stories(4, lambda n: Image.new("RGB", (1, 1), (9 * n, 9, 9)), "One."), evaluate, "every metric is a number"),
        (stories(1, noise), evaluate, NO_WINDOW),
        (stories(3, noise, frames=4), evaluate, NO_WINDOW),
        (stories(4, lambda n: noise(1)), evaluate, NO_WINDOW),
        (stories(4, lambda n: noise(n, (1, 90))), evaluate, NO_WINDOW),
        (stories(1, noise), partial(command, verb="train"), NO_WINDOW),
        (stories(3, noise, frames=4), features_command(), NO_WINDOW),
        (stories(1, noise), features_command(), "done"),  # a first trial
    ],
    # Pages without a text are counted.
    "empty_text_silent": [
        (changed("Text 3", " "), load_strictly, r"error: frames without a text: 1, .*metadata\.csv, line 4, frame 3"),
        (changed("Text 3", " ", "Text 4", ""), load, {1: "Text 1", 2: "Text 2"}),
        (changed("Text 3", " ", "Text 4", ""), logged(load), "log: .*left out: frames without a text: 2"),
    ],
    # The table in place of its folder, under any name, and a link to it: the pictures lie beside the link.
    "folder_points_at_table": [
        (table(), from_source("folder:IN/metadata.csv"), FOUR),
        (table(changed_text(",", "\t"), "Metadata.TSV"), load_strictly, FOUR),
        (table(changed_text(",", "\t"), "pages.tsv"), from_source("folder:IN/pages.tsv"), FOUR),
        (table(name="p/real.csv") | {"link.csv": Path("p/real.csv")}, from_source("folder:IN/link.csv"), FOUR),
        ({"train-0.parquet": albums(TWO)}, partial(load_albums, place="IN/train-0.parquet"), BY_SPLIT[:1]),
    ],
    # Folders by split, as the hub itself stores data sets.
    "hf_folders_by_split": [
        ({train: albums(TWO, TWO), test: albums(TWO), ".hidden/train-0.parquet": MAC}, load_albums, BY_SPLIT)
        for train, test in (
            ("train/0000.parquet", "test/0000.parquet"),
            ("default/train/0000.parquet", "default/test/0000.parquet"),
            ("data/train-0.parquet", "data/test-0.parquet"),
            ("data/train/a.parquet", "data/test/a.parquet"),
            ("default/a.parquet", "default/test.parquet"),
        )
    ],
    # A row whose texts are null is left out.
    "hf_null_texts_row": [
        (NULLS, partial(load_albums, strict=True), "error: .*train row 1: 'caps' is null; fill it, or remove the row"),
        (NULLS, load_albums, [("train-00000", "train", [1, 2]), ("train-00002", "train", [1])]),
        (NULLS, logged(load_albums), "log: .*train row 1: 'caps' is null.*frames without a text: 1"),
    ],
    # One picture per row: the column that names the story is asked for.
    "hf_one_picture_a_row": [
        (BOOKS, load_albums, "error: .*one picture or text per row, not one story; name the column .*story=COLUMN"),
        (BOOKS, partial(load_albums, options="&id=book"), "error: .*one picture or text per row, not one story"),
        (BOOKS, partial(load_albums, options="&story=book&position=page"),
         [("b", "train", [1, 2]), ("a", "train", [1])]),
    ],
    # Layouts and columns of other programs: capitals, Spark's folders, texts stored as bytes, and what cannot be read.
    "hf_of_other_programs": [
        *[({train: albums(TWO, TWO), test: albums(TWO)}, partial(load_albums, strict=True), BY_SPLIT)
          for train, test in (("Train.PARQUET", "TEST.parquet"), ("Train/0.parquet", "Test/0.parquet"),
                              ("train.parquet/part-0.snappy.parquet", "test.parquet/part-0.snappy.parquet"))],
        ({"100% a/1.parquet": albums([b"Page 1.", b"Page 2."])},
         partial(load, source="hugging_face:IN/100% a?images=pics&texts=caps"), {1: "Page 1.", 2: "Page 2."}),
        ({"1.parquet": albums(TWO)}, partial(load_albums, options="&images=caps"), "error: .*the column 'caps' holds"),
        ({"1.parquet": albums(TWO)}, from_source("hugging_face:IN"), "error: .*1.parquet: Unknown column 'texts'"),
        ({"1.parquet": albums("x", "y")}, partial(load_albums, options="&story=caps", strict=True),
         r"error: .*row 0: the surplus of 2 pictures but 1 texts"),
        ({"1.parquet": albums([["x"], ["y"]])}, load_albums, "error: .*row 0: 'caps' holds list, not texts"),
        *[({"1.parquet": pa.table({"pics": [[picture] * 2], "caps": [TWO]})}, partial(load_albums, strict=True),
           "error: .*row 0, frame 1: the data set does not hold its picture; embed it")
          for picture in ("a.jpg", "https://e.org/a.jpg", {"bytes": None, "path": "a.jpg"}, [jpeg(1)])],
        ({"1.parquet": LFS}, load_albums, r"error: .*1.parquet is a Git LFS pointer.*`git lfs pull`"),
    ],
    "hf_shards_with_other_columns": [
        ({"train-0.parquet": albums(TWO), "train-1.parquet": albums(TWO, score=[1.5])},
         partial(load_albums, strict=True), BY_SPLIT[:2]),
    ],
    # JSON values that are no text. What is null or not a number is a missing text.
    "json_text_not_text": [
        *[(lines_of_json(text), done, happens)
          for text, problem in (
              ('["Text 2", "x"]', r"line 2: the column 'text' must hold text, not \['Text 2', 'x'\]"),
              ('{"en": "x"}', "line 2: the column 'text' must hold text"),
              ("7", "line 2: the column 'text' must hold text, not 7"),
              ("true", "line 2: the column 'text' must hold text, not True"),
              ("null", "frames without a text: 1, the first is .*line 2"),
              ("NaN", "frames without a text: 1, the first is .*line 2"))
          for done, happens in (
              (load_strictly, f"error: .*{problem}"), (load, {1: "Text 1"}), (logged(load), "log: .*left out"))],
        ({"train.parquet": albums([{"en": "a", "fr": "b"}] * 2)}, load_albums,
         "error: .*train row 0: 'caps' holds the fields en, fr, not texts"),
    ],
    # Where file names are not UTF-8, no command begins.
    "locale_ascii": [("", every_command_in_an_ascii_locale, r"^error: .*file names are not UTF-8: set PYTHONUTF8=1")],
    # Whatever the name of a folder, its run lies directly in runs/ under a safe name, and is found again.
    "make_book_own_folder": [
        ("/home/me/my stories", name_of_its_run, r"^folder_home_me_my_stories-contrastive1-seed0-\w{8}$"),
        ("../../etc", name_of_its_run, r"^folder_\.\._\.\._etc-contrastive1-seed0-\w{8}$"),
        (ODD, name_of_its_run, r"^[A-Za-z0-9_.-]+-contrastive1-seed0-\w{8}$"),
        (ODD, lambda world: build_name(f"folder:{world.given}", "quick"), r"^folder-quick-[0-9a-f]{8}$"),
    ],
    # Neither make nor a shell reads anything into a source, and the name of a repository stays one.
    "make_hugging_face": [
        *[(source, through_make, f"^{re.escape(source)}$")
          for source in ("hugging_face:a/b?images=p&texts=c", f"folder:{ODD}", "folder:-x", "folder:100% a\tb%20")],
        ("hugging_face:a/b?images=p&texts=c", absolute, r"^hugging_face:a/b\?images=p&texts=c$"),
        ("hugging_face:IN?texts=c", absolute, r"^hugging_face:/.*/IN\?texts=c$"),
        *[(source, lambda world: source_fingerprint(world.given), "^$")  # nothing to watch
          for source in ("storyworld", "african_storybook:?language=fr", "story_reasoning:a/b", "hugging_face:a/b")],
    ],
    # Names in the table as other systems write them, and names of what is no picture.
    "names_in_the_table": [
        *[(given, load_strictly, {1: "Text 1", 2: "Text 2"})
          for given in (named("🦊 1\u200d.png", "100%25 %.png"), named("a/b/c d/1.JPEG", "a/b/2.TIF"),
                        named("é1.png", "é2.png", table=normalize("NFD", "é") + "{0[1]}.png"),
                        named(*(normalize("NFD", f"é{n}.png") for n in (1, 2)), table="é{0[2]}.png"),
                        named("a b1.png", "a b2.png", table="a%20b{0[3]}.png"))],
        (named("1.png"), load_strictly, {1: "Text 1"}),
        (changed("p/2.png", "P/2.png"), load_strictly, r"error: .*P/2\.png does not exist.*name, capitals included"),
        (table() | {"p/2.png": Path("gone.png")}, load_strictly, r"error: .*p/2\.png does not exist, or is a link"),
        (table() | {"p/2.png": Path("2.png")}, load_strictly, r"error: .*p/2\.png cannot be read .*symbolic links"),
        (changed("p/2.png", "p"), load_strictly, r"error: .*/p cannot be read as a picture .*directory"),
        (table() | {"p/2.png": LFS}, load_strictly, r"error: .*p/2\.png is a Git LFS pointer.*`git lfs pull`"),
        (table() | {"p/2.png": b"\0\0\0\x18ftypheic"}, load, WITHOUT_2),
    ],
    # Every kind of pixel that Pillow reads; of an animation the first picture.
    "pixels_of_every_kind": [
        ({f"a.{format}": content}, pixel, value)
        for format, content, value in (
            ("bmp", encoded(RED, "BMP"), (200, 30, 60)),
            ("tif", encoded(RED.convert("CMYK"), "TIFF"), (200, 30, 60)),
            ("gif", encoded(RED, "GIF", save_all=True, append_images=[BLUE]), (200, 30, 60)),
            ("webp", encoded(RED, "WEBP", lossless=True, save_all=True, append_images=[BLUE]), (200, 30, 60)),
            ("png", encoded(RED, "PNG", save_all=True, append_images=[BLUE]), (200, 30, 60)),
            ("png", encoded(RED.quantize(), "PNG", transparency=0), (255, 255, 255)),
            ("png", encoded(Image.new("LA", (8, 8), (9, 0)), "PNG"), (255, 255, 255)),
            ("png", encoded(Image.fromarray(np.full((8, 8), 40000, np.uint16)), "PNG"), (156, 156, 156)),
            ("tif", encoded(Image.fromarray(np.full((8, 8), 40000, ">u2")), "TIFF"), (156, 156, 156)),
            ("tif", encoded(Image.fromarray(np.full((8, 8), 0.6, np.float32)), "TIFF"), (153, 153, 153)),
            ("tif", encoded(Image.fromarray(np.full((8, 8), 160, np.float32)), "TIFF"), (160, 160, 160)))
    ],
    # A picture that is replaced, touched, added or removed makes the workflow do its work again.
    "make_picture_replaced": [
        (table(), after(lambda folder: noise(9).save(folder / "p/1.png")), "done again"),
        (table(), after(lambda folder: os.utime(folder / "p/1.png", (1, 1))), "done again"),
        (table(), after(lambda folder: (folder / "p/1.png").unlink()), "done again"),
        (table(PAGES + "5"), after(lambda folder: write(folder / "metadata.csv", PAGES)), "done again"),
        (table(), after(lambda folder: write(folder / "notes.txt", "no picture of a story")), "nothing to do"),
    ],
    "png_large_text": [
        ({"a.png": png_with_large_chunks()}, lambda world: open_picture(world.folder / "a.png").size, (80, 60)),
    ],
    "runner_relative_folder": [(table(), notebook, "^Text 1$")],
    # No place to write: said before any work is done.
    "runs_not_writable": [
        (table(), runs_below_a_file, r"error: .*cannot be written \(Not a directory\).*STORYLIB_RUNS"),
        (table(), disk_says(errno.EROFS), r"error: .*cannot be written \(Read-only file system\).*STORYLIB_"),
        (table(), disk_says(errno.ENOSPC), "error: The disk of .* is full.*STORYLIB_"),
    ],
    # A text as the prediction of itself has full marks in every script; words that differ in vowel signs have none.
    "scores_of_other_scripts": [
        *[(text, scores, ALL_FULL)
          for text in ("أبحر القارب الصغير إلى الجزيرة البعيدة اليوم", f"{AMHARIC} ሄደች ዛሬ", "छोटी नाव द्वीप की ओर चली",
                       "小船慢慢地驶向海岛。", "เรือลำเล็กแล่นไปยังเกาะ", "🐶🏠🌊🦊🎩🌙")],
        ("दीन दून को", partial(scores, other="दिन दान की"),
         {"BLEU": 0, "chrF": 17, "ROUGE": 0, "CIDEr": 0, "METEOR": 0}),
    ],
    # Tables as spreadsheets write them, and heads without our columns.
    "spreadsheet_exports": [
        (changed(",", ";"), load_strictly, FOUR),
        (changed(",", "\t", encoding="utf-16"), load_strictly, FOUR),
        (changed(",", "\t", encoding="utf-16-le"), load_strictly, FOUR),
        (table("sep=;\r\n" + changed_text(",", ";", "\n", "\r\n"), encoding="utf-8-sig"), load_strictly, FOUR),
        (table('"sep=,"\n' + PAGES), load_strictly, FOUR),
        (table("sep=^\n" + changed_text(",", "^")), load_strictly, FOUR),
        (changed("file_name,text,story_id,position", "File Name, TEXT ,Story-ID,Position"), load_strictly, FOUR),
        (changed("\n", "\r"), load_strictly, FOUR),
        (table(changed_text(",1", ",1.0", ",2", ",2.00", ",4", ",+4") + "\n,,,\n\n"), load_strictly, FOUR),
        (table("\n;;;\n" + changed_text(",", ";", ";3", ";3,0")), load_strictly, FOUR),
        (changed(",", ", ", "Text 1", '"Text 1"'), load_strictly, FOUR),
        (table(changed_text("p/", "p\\") + ",,,"), load_strictly, FOUR),
        (table(PAGES.replace("1\n", "1\r\n").replace("2\n", "2\r")),
         load_strictly, FOUR),
        (table(re.sub("[^,\n]+", r'"\g<0>"', PAGES).replace(",", ";"), encoding="utf-8-sig"), load_strictly, FOUR),
        (table("sep=\t\r\n" + changed_text(",", "\t"), encoding="utf-8-sig"), load_strictly, FOUR),
        (PICTURES | {"metadata.csv": codecs.BOM_UTF16_BE + PAGES.encode("utf-16-be")}, load_strictly, FOUR),
        (table(changed_text(",", "\t", "\n", "\r\n"), "metadata.txt", "utf-32"), load_strictly, FOUR),
        (changed("file_name,text,", "file_name,Text,text,", ",Text ", ",,Text "), load,
         r"error: .*csv repeats the column 'text'.*its head was read as \['file_name', 'Text', 'text'"),
        *[(PICTURES | {"metadata.csv": start + bytes(99)}, load, "error: .*csv is a spreadsheet or an archive: export")
          for start in (b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"\x1f\x8b")],
        (PICTURES | {"metadata.csv": LFS}, load, "error: .*csv is a Git LFS pointer"),
        *[(table(content, name), from_source(f"folder:IN/{name}"), f"error: .*{name} is a JSON list: write one object")
          for content in ('[{"text": 1}]', '[\n {\n"text": 1\n}\n]') for name in ("metadata.jsonl", "metadata.json")],
        (changed("Text 2", "Café", encoding="cp1252"), load_strictly, "error: .*line 3 is not UTF-8 text: save"),
        *[(changed("file_name,text,story_id,position", head), done, rf"error: .*csv lacks the column 'file_name'\. "
           rf"Expected: file_name, text.*its head was read as {shown}")
          for head, shown in (
              ("file,text,story_id,position", r"\['file', 'text', 'story_id', 'position'\]"),
              ("file_name:text:story_id:position", r"\['file_name:text:story_id:position'\]"))
          for done in (load, load_strictly)],
    ],
    # --strict makes an error of what would be left out, and of texts that the encoder cannot read.
    "strict_command": [
        (changed("Text 3", " "), features_command("--strict"), "error: frames without a text: 1"),
        (changed("Text 3", " "), features_command(), "done"),
        (stories(1, noise, AMHARIC), features_command("--strict"), "error: folder:IN: .*'minilm' cannot read 100 %"),
    ],
    # Texts of which the encoder knows no piece.
    "unknown_script": [
        (stories(1, noise, AMHARIC), features, "finite"),
        (stories(1, noise, AMHARIC), logged(features),
         "log: .*folder:IN: the text encoder 'minilm' cannot read 100 % of the texts' word pieces; choose text_enc"),
        (stories(1, noise, AMHARIC), partial(features, strict=True), "error: folder:IN: .*'minilm' cannot read 100 %"),
    ],
    # Chapter 07: natural order, without what a Mac writes beside a file; all that Pillow opens; commas in names.
    "your_story_names": [
        (FOUR_NAMES | {f"._{name}": MAC for name in FOUR_NAMES}, your_story(), [(n, 20) for n in (9, 10, 11, 12)]),
        ({"a.avif": noise(1), "B.JPG": noise(2), "c.webp": noise(3), "d.tif": noise(4), "e.txt": ""}, your_story(),
         [(96, 64)] * 4),
        ({f"{n}.heic": b"\0\0\0\x18ftypheic" for n in range(4)}, your_story(),
         r"error: Picture 1 cannot be used.*0\.heic is a HEIC picture: `pip install pillow-heif`"),
        (COMMAS, your_story(",".join(f"IN/{name}" for name in COMMAS)), [(n, 20) for n in (1, 2, 3, 4)]),
        (COMMAS, your_story("IN/1, two.png, IN/gone.png"), r"error: There is no picture IN/gone\.png"),
        (COMMAS, your_story(2024), "error: pictures is a text, not 2024: write it in quotes, or give papermill -r"),
        (COMMAS, your_story(["IN"]), r"error: pictures is a text, not \['IN'\]"),
        (COMMAS, your_story(lines=None), "error: lines is a text, not None"),
    ],
}  # fmt: skip
ROWS = [(case, *row) for case, rows in CASES.items() for row in rows]


@pytest.mark.parametrize(
    ("case", "given", "done", "happens"), ROWS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ROWS)]
)
def test_case(case, given, done, happens, tmp_path, monkeypatch, caplog, capsys):
    world = World(tmp_path, monkeypatch, caplog, capsys, given)
    try:
        result = done(world)
    except Exception as error:
        if not type(error).__module__.startswith("storylib."):
            raise
        result = f"error: {error}"
    if isinstance(happens, str):
        assert re.search(happens, result, flags=re.DOTALL)
        assert result.startswith("log: ") or "\n" not in result.strip()
    else:
        assert result == happens


def test_every_case_is_in_the_table():
    assert len(CASES) == 25 and all(CASES.values())


PRINTABLE = "".join(filter(str.isprintable, map(chr, range(sys.maxunicode + 1)))).replace("/", "")
ASCII = "".join(filter(str.isascii, PRINTABLE))


def random_name(dice: random.Random) -> str:
    """A file name of up to 40 characters, half of them ASCII, so that those with a meaning somewhere are frequent."""
    name = "".join(dice.choice(dice.choice((ASCII, PRINTABLE))) for _ in range(dice.randint(1, 40)))
    return name if name.strip(". ") else "x"


def test_random_names(tmp_path, monkeypatch, capsys):
    """Of a folder, its picture and its story: through the load, the names of build and run, receipt and page."""
    dice, seen = random.Random(20), set()
    picture = io.BytesIO()
    noise(1, (8, 8)).save(picture, "PNG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STORYLIB_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("STORYLIB_RUNS", str(tmp_path / ".runs"))
    monkeypatch.setattr("storylib.config.experiments", cache(experiments))  # what is the same for all names, once
    monkeypatch.setattr("storylib.__main__.app", typer.main.get_command(app))
    use_stub_encoders(monkeypatch)
    folders = {random_name(dice) for _ in range(300)}
    for folder in sorted(folders):
        image, story = random_name(dice), random_name(dice)
        write(Path(folder, image), picture.getvalue())
        rows = io.StringIO()
        csv.writer(rows).writerows([HEAD.strip().split(","), [image, "A fox.", f"s{story}", 1]])
        write(Path(folder, "metadata.csv"), rows.getvalue())
        source = f"folder:{folder}"
        (loaded,) = load_stories(source, strict=True)
        assert (loaded.id, loaded.frames[0].image) == (one_line(f"s{story}"), tmp_path / folder / image)
        source = absolute_source(source)
        assert source == f"folder:{tmp_path / folder}" == absolute_source(source)
        names = build_name(source, "quick"), runs.run_id(configure("quick", source=source), "data")
        assert all(re.fullmatch(r"[\w.-]{1,120}", name, re.ASCII) and name[0] not in ".-" for name in names)
        seen.update(names)
        monkeypatch.setenv("STORYLIB_SOURCE", source)
        receipt = Path("_build", names[0], "features.json")
        assert main(["features", "--receipt", str(receipt)]) == 0, capsys.readouterr().err
        assert json.loads(receipt.read_text())[0]["stories"] == 1
        monkeypatch.setattr(gallery, "contents", lambda *_, facts={"source": source, "story": story}: facts)
        page = gallery.write_gallery({}, None, Path("gallery.html")).read_text(encoding="utf-8")  # type: ignore[arg-type]
        title = re.search("<title>Gallery of every test window: (.*?)</title>", page)
        facts = re.search(r'<script id="facts" type="application/json">(.*?)</script>', page)
        assert title and html.unescape(title[1]) == source and "<" not in title[1]
        assert facts and json.loads(facts[1]) | {"source": source, "story": story} == json.loads(facts[1])
        shutil.rmtree(folder)
    assert len(seen) == 2 * len(folders) > 590
