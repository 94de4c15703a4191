"""The graph from stories to the book: features -> train -> evaluate -> chapters -> book.

`make book` and `make runs` call it; by hand:

    .venv/bin/python -m snakemake --cores 2 --config source=storyworld profile=quick -- book

    (add --dry-run to see what would be done, and why)

Each job leaves a small receipt; the records themselves lie in runs/, where storylib finds them by their configuration.
A job is done again when a file that it lists, its configuration in experiments.yml or its command has changed.
"""

import dataclasses
import os
import re
import shlex
import sys
from pathlib import Path

from storylib.config import configure, experiments, seeds

SOURCE = config.get("source", "storyworld")
PROFILE = config.get("profile", "quick")
ROOT = "_build/" + re.sub(r"[^\w.-]+", "_", f"{SOURCE}-{PROFILE}")  # "folder:<path>" is a source too
SOURCE_WORD = shlex.quote(SOURCE)
PYTHON = shlex.quote(sys.executable)
ARMS = list(experiments()["arms"])
SEEDS = seeds(PROFILE)

# The modules behind each stage. A stage lists those of the stages before it too, because after a killed run two receipts
# may be equal while the code between them has changed. What only opens doors (__main__, cache, runner, book, workflow) is
# not here: it changes no result.
LAYERS = {
    "features": ["config", "pictures", "stories", "download", "encoders", "boundary", "features"],
    "train": ["parallel", "perception", "losses", "decoders", "image_decoders", "model", "pretraining", "training", "runs"],
    "evaluate": [
        "metrics", "statistics", "protocol", "ngrams", "floors", "judges", "evaluation", "attention", "scores", "prediction",
    ],
    "publish": ["comparison", "ablation", "sweeps", "presets"],
    "chapter": ["findings", "leaks", "attributes", "difficulty", "plots"],
    "audit": ["audit"],
    "cost": ["costs", "cost_figures"],
    "gallery": ["gallery"],
    "your_story": ["your_story"],
}


def modules(*stages):
    names = [name for stage in stages for name in LAYERS[stage]]
    return [path for name in names for path in package(name)]


def package(name):
    """The files of a module: one, or those of a package."""
    return sorted(map(str, Path("storylib", name).glob("*.py"))) or [f"storylib/{name}.py"]


def sources():
    files = sorted(Path("storylib/sources").rglob("*"))
    return [str(path) for path in files if path.suffix in (".py", ".sha256")]


def evaluations(arms=ARMS, seeds=SEEDS):
    return expand(f"{ROOT}/evaluations/{{arm}}-seed{{seed}}.json", arm=arms, seed=seeds)


def tables():
    """The table of a user's own folder; the other sources do not change by themselves."""
    name, _, path = SOURCE.partition(":")
    folder = Path(path or os.environ.get("STORYLIB_FOLDER", ""))
    return [str(t) for t in folder.glob("metadata.*")] if name == "folder" and folder.name else []


# What each notebook reads. 02 looks closely at one run, 03 at one arm over all seeds, 04 compares the arms.
TO_FEATURES = sources() + modules("features")
TO_TRAIN = TO_FEATURES + modules("train")
TO_EVALUATE = TO_TRAIN + modules("evaluate")
MEASURED = ("leaks", "benchmarks/reading", "benchmarks/fuzz_markup")  # once, by the commands of benchmarks/
RECORDS = [path for name in MEASURED if Path(path := f"results/{name}.json").is_file()]
COSTS = [str(p) for p in sorted(Path("results/benchmarks").glob("*.json")) if p.stem.split("-")[0] in (
    "training_cost", "encoding", "reading", "growth")]  # growth-cuda too
BUNDLED = [str(path) for path in sorted(Path("storylib/bundled").glob("*"))]  # the storyteller that 07 asks
AUDITS, SWEPT, TOLD = (  # published records
    [str(path) for kind in kinds for path in sorted(Path("results", kind).glob("*.json"))]
    for kinds in (["audit"], ["sweeps"], ["ablation", "audit", "presets", "sweeps"])
)
CHAPTERS = {
    "00_findings": [*package("protocol"), *modules("audit"), *TOLD],
    "01_data": [
        f"{ROOT}/features.json", *TO_FEATURES, *package("metrics"),  # a leak is scored by its ranks
        *package("costs"), *RECORDS,
    ],
    "02_train": [f"{ROOT}/runs/contrastive-on-seed0.json", *TO_TRAIN],
    "03_evaluate": [*evaluations(["contrastive-on"]), *TO_EVALUATE],
    "04_ablation": [*evaluations(["contrastive-off", "contrastive-on"]), *TO_EVALUATE, *SWEPT],
    "05_audit": [f"{ROOT}/runs/contrastive-on-seed0.json", *TO_EVALUATE, *modules("audit"), *AUDITS],
    "06_cost": [*evaluations(), *modules("cost"), *COSTS],  # and what Snakemake measured of the jobs until then
    "07_your_story": [*TO_TRAIN, *modules("your_story"), "storylib/prediction.py", *BUNDLED],
    "08_rerun": [f"{ROOT}/runs/contrastive-on-seed0.json", *TO_TRAIN, "storylib/workflow.py"],
}

# Every job says when it starts and ends; what it prints goes to its log, whose end is shown when it fails.
shell.prefix(
    r"""set -euo pipefail; step() {{
      text=$1 log=$2 start=$SECONDS; shift 2
      echo "  $(date +%H:%M:%S)  $text ..." >&2
      if "$@" > "$log" 2>&1; then echo "  $(date +%H:%M:%S)  done in $((SECONDS - start)) s: $text" >&2
      else code=$?; echo "FAILED: $text. The end of $log:" >&2; tail -n 30 "$log" | sed 's/^/  | /' >&2; exit $code; fi
    }}; """
)


wildcard_constraints:
    arm="|".join(ARMS),
    seed=r"\d+",
    chapter="|".join(CHAPTERS),
    sweep="|".join(name.replace(" ", "-") for name in experiments()["sweeps"]),


def receipts():
    # Snakemake does not make a missing intermediate file again while what comes after it exists: after a failed run it
    # would call a stale book up to date. Asking for every receipt by name rules that out.
    return [f"{ROOT}/features.json", *expand(f"{ROOT}/runs/{{arm}}-seed{{seed}}.json", arm=ARMS, seed=SEEDS), *evaluations()]


rule book:
    input:
        receipts(),
        expand(f"{ROOT}/executed/notebooks/{{chapter}}.ipynb", chapter=CHAPTERS),
        f"{ROOT}/executed/gallery.html",
        "_build/html/book.json",


LONG = {"mem_mb": 6000, "runtime": 300}  # MB, and minutes of a job that trains many models one after another

# What the full profile publishes in results/, as numbers: the ablation, the presets, every sweep and the audit.
SWEEPS = {name.replace(" ", "-"): name for name in experiments()["sweeps"]}
PUBLISHED = [f"{ROOT}/published/{name}" for name in ("ablation", "presets", "audit", *(f"sweep-{s}" for s in SWEEPS))]


rule runs:
    input:
        receipts(),
        PUBLISHED if PROFILE == "full" else [],


rule render:
    input:
        chapters=expand(f"{ROOT}/executed/notebooks/{{chapter}}.ipynb", chapter=CHAPTERS),
        gallery=f"{ROOT}/executed/gallery.html",
        credits=f"{ROOT}/executed/credits.md",
        pages=[str(path) for path in sorted(Path("book").rglob("*")) if path.is_file()],
        settings=["_config.yml", "_toc.yml", "experiments.yml", "storylib/book.py", "storylib/reference.py"],
        modules=modules(*LAYERS),  # the page of the library shows their docstrings
        records=[str(path) for path in sorted(Path("results").rglob("*.json"))],
    output:
        "_build/html/book.json",
    params:
        executed=f"{ROOT}/executed",
    log:
        f"{ROOT}/logs/book.log",
    shell:
        "step 'building the book, strictly (about 20 seconds)' {log}"
        " {PYTHON} -m storylib.book --executed {params.executed} --output _build"


rule credits:
    input:
        f"{ROOT}/features.json",
        sources(),
    output:
        f"{ROOT}/executed/credits.md",
    log:
        f"{ROOT}/logs/credits.log",
    shell:
        "step 'naming those who made the stories (seconds)' {log}"
        " {PYTHON} -m storylib.sources.acknowledgements {SOURCE_WORD} {output} --profile {PROFILE}"


rule features:
    input:
        TO_FEATURES,
        tables(),
    output:
        f"{ROOT}/features.json",
    params:
        settings=dataclasses.asdict(configure(PROFILE, source=SOURCE).data),
    benchmark:
        f"{ROOT}/costs/features.tsv"
    log:
        f"{ROOT}/logs/features.log",
    threads: workflow.cores or 4  # a job on a cluster asks for four
    shell:
        "step 'reading the stories and encoding every picture and text once (1 to 5 minutes)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib features --source {SOURCE_WORD} --profile {PROFILE}"
        " --receipt {output}"


rule train:
    input:
        f"{ROOT}/features.json",
        TO_TRAIN,
    output:
        f"{ROOT}/runs/{{arm}}-seed{{seed}}.json",
    params:
        # so that a changed arm redoes that arm, and a comment in experiments.yml nothing
        settings=lambda w: configure(PROFILE, w.arm, source=SOURCE, seed=int(w.seed)).flat(),
    benchmark:
        f"{ROOT}/costs/train-{{arm}}-seed{{seed}}.tsv"
    log:
        f"{ROOT}/logs/train-{{arm}}-seed{{seed}}.log",
    threads: 1
    priority: 2  # the longest jobs first, so that no core idles at the end
    shell:
        "step 'training {wildcards.arm}, seed {wildcards.seed} (1 to 3 minutes)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib train --source {SOURCE_WORD} --profile {PROFILE}"
        " --arm {wildcards.arm} --seed {wildcards.seed} --receipt {output}"


rule evaluate:
    input:
        f"{ROOT}/runs/{{arm}}-seed{{seed}}.json",
        TO_EVALUATE,
    output:
        f"{ROOT}/evaluations/{{arm}}-seed{{seed}}.json",
    benchmark:
        f"{ROOT}/costs/evaluate-{{arm}}-seed{{seed}}.tsv"
    log:
        f"{ROOT}/logs/evaluate-{{arm}}-seed{{seed}}.log",
    threads: 1
    priority: 1
    shell:
        "step 'evaluating {wildcards.arm}, seed {wildcards.seed}, on held-out stories (about a minute)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib evaluate --source {SOURCE_WORD} --profile {PROFILE}"
        " --arm {wildcards.arm} --seed {wildcards.seed} --receipt {output}"


rule ablation:
    input:
        evaluations(),
        TO_EVALUATE,
        modules("publish"),
    output:
        touch(f"{ROOT}/published/ablation"),
    log:
        f"{ROOT}/logs/publish-ablation.log",
    shell:
        "step 'publishing the ablation (seconds)' {log}"
        " {PYTHON} -m storylib.ablation --source {SOURCE_WORD} --profile {PROFILE}"


rule presets:
    input:
        f"{ROOT}/features.json",
        TO_EVALUATE,
        modules("publish"),
    output:
        touch(f"{ROOT}/published/presets"),
    params:
        presets=experiments()["presets"],
    log:
        f"{ROOT}/logs/publish-presets.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "step 'the published systems and ours, with every seed (an hour)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib.presets --source {SOURCE_WORD} --profile {PROFILE}"


rule sweep:
    input:
        f"{ROOT}/features.json",
        TO_EVALUATE,
        modules("publish"),
    output:
        touch(f"{ROOT}/published/sweep-{{sweep}}"),
    params:
        name=lambda w: shlex.quote(SWEEPS[w.sweep]),
        points=lambda w: experiments()["sweeps"][SWEEPS[w.sweep]],
    log:
        f"{ROOT}/logs/publish-sweep-{{sweep}}.log",
    threads: 1
    resources:
        **LONG,
    shell:
        "step 'where the loss matters: {wildcards.sweep} (10 to 60 minutes)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib.sweeps --source {SOURCE_WORD} --profile {PROFILE}"
        " --only {params.name}"


rule audit:
    input:
        f"{ROOT}/features.json",
        TO_EVALUATE,
        modules("publish", "audit"),
    output:
        touch(f"{ROOT}/published/audit"),
    params:
        plan=experiments()["audit"],
    log:
        f"{ROOT}/logs/publish-audit.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "step 'the ladders of the published systems (an hour)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib.audit --source {SOURCE_WORD} --profile {PROFILE}"


LONGEST = "05_audit"  # trains the published systems


rule chapter:
    wildcard_constraints:
        chapter="|".join(name for name in CHAPTERS if name != LONGEST),
    input:
        lambda w: CHAPTERS[w.chapter],
        modules("publish", "chapter"),
        notebook="notebooks/{chapter}.ipynb",
    output:
        f"{ROOT}/executed/notebooks/{{chapter}}.ipynb",
    params:
        figures=f"{ROOT}/executed/figures",
        plan=lambda w: experiments()["audit"] if w.chapter == "05_audit" else None,  # the other chapters do not read it
        # 07 is about a reader's own story and 00 about the published records, whatever the others are about
        takes=lambda w: "3 to 6 minutes" if w.chapter == LONGEST else "about half a minute",
        given=lambda w: "" if w.chapter in ("07_your_story", "00_findings") else f"-p source {SOURCE_WORD} -p profile {PROFILE}",
    benchmark:
        f"{ROOT}/costs/chapter-{{chapter}}.tsv"
    log:
        f"{ROOT}/logs/{{chapter}}.log",
    threads: 1
    shell:
        "step 'executing {input.notebook} ({params.takes})' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib.runner {input.notebook} {output} --figures {params.figures}"
        " {params.given}"


use rule chapter as longest_chapter with:
    wildcard_constraints:
        chapter=LONGEST,
    priority: 2  # as the trainings: begun last, it would end alone


rule gallery:
    input:
        evaluations(seeds=SEEDS[:1]),
        TO_EVALUATE,
        modules("publish", "chapter", "gallery"),
        "storylib/gallery.html",
    output:
        f"{ROOT}/executed/gallery.html",
    benchmark:
        f"{ROOT}/costs/gallery.tsv"
    log:
        f"{ROOT}/logs/gallery.log",
    threads: 1
    shell:
        "step 'the gallery of every test window (half a minute)' {log}"
        " env OMP_NUM_THREADS={threads} {PYTHON} -m storylib.gallery --output {output}"
        " --source {SOURCE_WORD} --profile {PROFILE}"
