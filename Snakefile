"""The workflow from stories to the book: features -> train -> evaluate -> chapters -> book.

`make book` and `make runs` call it; by hand:

    .venv/bin/python -m snakemake --cores 2 --config source=storyworld profile=quick -- book

    (add --dry-run to see what would be done, and why)

Each job leaves a small receipt; the records themselves are in runs/, where storylib finds them by their id. A job is
done again when one of its input files, its configuration in experiments.yml, its command or the code that it runs has
changed. Code is compared by `code_fingerprint`, so a changed comment repeats nothing.
"""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

from storylib.config import configure, experiments, seeds, slug
from storylib.data.code import code_fingerprint
from storylib.report.workflow import notebook_fingerprint

SOURCE = config.get("source", "storyworld")
PROFILE = config.get("profile", "quick")
ROOT = "_build/" + slug(f"{SOURCE}-{PROFILE}")
STORYLIB = f"{shlex.quote(sys.executable)} -m storylib"
OPTIONS = f"--source {shlex.quote(SOURCE)} --profile {PROFILE}"
PLAN = experiments()
ARMS = list(PLAN["arms"])
COMPARED = list(PLAN["ablation"]["arms"].values())  # the two arms of the ablation; 02, 03 and 05 show the first
SEEDS = seeds(PROFILE)
SWEEPS = {slug(name): name for name in PLAN.get("sweeps", {})}

# The modules that a stage runs, with all that they import. A stage names those of the stages before it too: after a
# killed run two receipts may be equal although the code between them has changed.
FEATURES_CODE = ["data.features", "sources." + SOURCE.partition(":")[0]]
TRAIN_CODE = [*FEATURES_CODE, "data.splits", "training"]
EVALUATE_CODE = [*TRAIN_CODE, "experiments.runs"]

FEATURES = f"{ROOT}/features.json"
PUBLISHED = [f"{ROOT}/published/{name}" for name in ("ablation", "presets", "audit", *(f"sweep-{s}" for s in SWEEPS))]
LONG = {"mem_mb": 6000, "runtime": 300}  # MB, and minutes of a job that trains many models one after another
LONGEST = "05_audit"  # trains the published systems


def runs(arms=ARMS, seeds=SEEDS):
    return expand(f"{ROOT}/runs/{{arm}}-seed{{seed}}.json", arm=arms, seed=seeds)


def evaluations(arms=ARMS, seeds=SEEDS):
    return expand(f"{ROOT}/evaluations/{{arm}}-seed{{seed}}.json", arm=arms, seed=seeds)


def receipts():
    # Snakemake does not make a missing intermediate file again while what comes after it exists: after a failed run it
    # would call a stale book up to date. Requesting every receipt by name excludes that.
    return [FEATURES, *runs(), *evaluations()]


def records(*kinds):
    """Published records that a chapter reads."""
    return [str(path) for kind in kinds for path in sorted(Path("results").glob(f"{kind}/*.json"))]


def tables():
    """The table of a user's own folder; the other sources do not change by themselves."""
    name, _, path = SOURCE.partition(":")
    folder = Path(path or os.environ.get("STORYLIB_FOLDER", ""))
    return [str(table) for table in folder.glob("metadata.*")] if name == "folder" and folder.name else []


# What each chapter reads. One that is not named here reads every evaluation.
READS = {
    "00_findings": records("ablation", "audit", "presets", "sweeps"),
    "01_data": [FEATURES, *records(".", "benchmarks")],
    "02_train": runs(COMPARED[:1], SEEDS[:1]),
    "03_evaluate": evaluations(COMPARED[:1]),
    "04_ablation": [*evaluations(COMPARED), *records("ablation", "sweeps")],
    "05_audit": [*runs(COMPARED[:1], SEEDS[:1]), *records("audit")],
    "06_cost": [*evaluations(), *records("benchmarks")],  # and the costs of the jobs until then
    "07_your_story": [str(path) for path in sorted(Path("storylib/report/bundled").glob("*"))],
    "08_rerun": runs(COMPARED[:1], SEEDS[:1]),
}
NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))
CHAPTERS = {path.stem: READS.get(path.stem, evaluations()) for path in NOTEBOOKS}

# Every job reports when it starts and ends; its output goes to its log, whose end is shown when it fails.
shell.prefix(
    r"""set -euo pipefail; step() {{
      text=$1 log=$2 start=$SECONDS; export OMP_NUM_THREADS=$3; shift 3
      echo "  $(date +%H:%M:%S)  $text ..." >&2
      if "$@" > "$log" 2>&1; then echo "  $(date +%H:%M:%S)  done in $((SECONDS - start)) s: $text" >&2
      else code=$?; echo "FAILED: $text. The end of $log:" >&2; tail -n 30 "$log" | sed 's/^/  | /' >&2; exit $code; fi
    }}; """
)


wildcard_constraints:
    arm="|".join(ARMS),
    seed=r"\d+",
    chapter="|".join(CHAPTERS),
    sweep="|".join(SWEEPS),


rule book:
    input:
        receipts(),
        expand(f"{ROOT}/executed/notebooks/{{chapter}}.ipynb", chapter=CHAPTERS),
        f"{ROOT}/executed/gallery.html",
        "_build/html/book.json",


# The full profile also publishes its numbers in results/: the ablation, the presets, every sweep and the audit.
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
        settings=["_config.yml", "_toc.yml", "experiments.yml"],
        library=[str(path) for path in sorted(Path("storylib").rglob("*.py"))],  # a page shows the docstrings
        records=[str(path) for path in sorted(Path("results").rglob("*.json"))],
    output:
        "_build/html/book.json",
    params:
        executed=f"{ROOT}/executed",
    log:
        f"{ROOT}/logs/book.log",
    shell:
        "step 'building the book, strictly (about 20 seconds)' {log} {threads}"
        " {STORYLIB} render --executed {params.executed} --output _build"


rule credits:
    input:
        FEATURES,
    output:
        f"{ROOT}/executed/credits.md",
    params:
        code=code_fingerprint("report.acknowledgements", *FEATURES_CODE),
    log:
        f"{ROOT}/logs/credits.log",
    shell:
        "step 'listing the authors of the stories (seconds)' {log} {threads} {STORYLIB} credits {OPTIONS} --output {output}"


rule features:
    input:
        tables(),
    output:
        FEATURES,
    params:
        settings=dataclasses.asdict(configure(PROFILE, source=SOURCE).data),
        code=code_fingerprint(*FEATURES_CODE),
    benchmark:
        f"{ROOT}/costs/features.tsv"
    log:
        f"{ROOT}/logs/features.log",
    threads: workflow.cores or 4  # a job on a cluster requests four
    shell:
        "step 'reading the stories and encoding every picture and text once (1 to 5 minutes)' {log} {threads}"
        " {STORYLIB} features {OPTIONS} --receipt {output}"


rule train:
    input:
        FEATURES,
    output:
        f"{ROOT}/runs/{{arm}}-seed{{seed}}.json",
    params:
        # a changed arm repeats that arm, and a comment in experiments.yml nothing
        settings=lambda w: configure(PROFILE, w.arm, source=SOURCE, seed=int(w.seed)).flat(),
        code=code_fingerprint(*TRAIN_CODE),
    benchmark:
        f"{ROOT}/costs/train-{{arm}}-seed{{seed}}.tsv"
    log:
        f"{ROOT}/logs/train-{{arm}}-seed{{seed}}.log",
    threads: 1
    priority: 2  # the longest jobs first, so that no core is idle at the end
    shell:
        "step 'training {wildcards.arm}, seed {wildcards.seed} (1 to 3 minutes)' {log} {threads}"
        " {STORYLIB} train {OPTIONS} --arm {wildcards.arm} --seed {wildcards.seed} --receipt {output}"


rule evaluate:
    input:
        f"{ROOT}/runs/{{arm}}-seed{{seed}}.json",
    output:
        f"{ROOT}/evaluations/{{arm}}-seed{{seed}}.json",
    params:
        code=code_fingerprint(*EVALUATE_CODE),
    benchmark:
        f"{ROOT}/costs/evaluate-{{arm}}-seed{{seed}}.tsv"
    log:
        f"{ROOT}/logs/evaluate-{{arm}}-seed{{seed}}.log",
    threads: 1
    priority: 1
    shell:
        "step 'evaluating {wildcards.arm}, seed {wildcards.seed}, on held-out stories (about a minute)' {log} {threads}"
        " {STORYLIB} evaluate {OPTIONS} --arm {wildcards.arm} --seed {wildcards.seed} --receipt {output}"


rule ablation:
    input:
        evaluations(),
    output:
        touch(f"{ROOT}/published/ablation"),
    params:
        code=code_fingerprint("experiments.ablation", *EVALUATE_CODE),
    log:
        f"{ROOT}/logs/publish-ablation.log",
    shell:
        "step 'publishing the ablation (seconds)' {log} {threads} {STORYLIB} ablation {OPTIONS}"


rule presets:
    input:
        FEATURES,
    output:
        touch(f"{ROOT}/published/presets"),
    params:
        presets=PLAN.get("presets"),
        code=code_fingerprint("experiments.presets", *EVALUATE_CODE),
    log:
        f"{ROOT}/logs/publish-presets.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "step 'training the published systems and ours with every seed (an hour)' {log} {threads} {STORYLIB} presets {OPTIONS}"


rule sweep:
    input:
        FEATURES,
    output:
        touch(f"{ROOT}/published/sweep-{{sweep}}"),
    params:
        name=lambda w: shlex.quote(SWEEPS[w.sweep]),
        points=lambda w: PLAN["sweeps"][SWEEPS[w.sweep]],
        code=code_fingerprint("experiments.sweeps", *EVALUATE_CODE),
    log:
        f"{ROOT}/logs/publish-sweep-{{sweep}}.log",
    threads: 1
    resources:
        **LONG,
    shell:
        "step 'the sweep {wildcards.sweep} (10 to 60 minutes)' {log} {threads} {STORYLIB} sweep {OPTIONS} --only {params.name}"


rule audit:
    input:
        FEATURES,
    output:
        touch(f"{ROOT}/published/audit"),
    params:
        plan=PLAN.get("audit"),
        code=code_fingerprint("audit.ladders", *EVALUATE_CODE),
    log:
        f"{ROOT}/logs/publish-audit.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "step 'the ladders of the published systems (an hour)' {log} {threads} {STORYLIB} audit {OPTIONS}"


rule chapter:
    wildcard_constraints:
        chapter="|".join(name for name in CHAPTERS if name != LONGEST),
    input:
        lambda w: CHAPTERS[w.chapter],
        notebook="notebooks/{chapter}.ipynb",
    output:
        f"{ROOT}/executed/notebooks/{{chapter}}.ipynb",
    params:
        code=lambda w: notebook_fingerprint(Path("notebooks", f"{w.chapter}.ipynb")),
        plan=lambda w: PLAN.get("audit") if w.chapter == LONGEST else None,  # the other chapters do not read it
        figures=f"{ROOT}/executed/figures",
        takes=lambda w: "3 to 6 minutes" if w.chapter == LONGEST else "about half a minute",
        # 07 is about a reader's own story and 00 about published records: they have no such parameters
        settings=lambda w: (
            "" if w.chapter in ("07_your_story", "00_findings")
            else f"--set source={shlex.quote(SOURCE)} --set profile={PROFILE}"
        ),
    benchmark:
        f"{ROOT}/costs/chapter-{{chapter}}.tsv"
    log:
        f"{ROOT}/logs/{{chapter}}.log",
    threads: 1
    shell:
        "step 'executing {input.notebook} ({params.takes})' {log} {threads}"
        " {STORYLIB} notebook {input.notebook} --output {output} --figures {params.figures} {params.settings}"


use rule chapter as longest_chapter with:
    wildcard_constraints:
        chapter=LONGEST,
    priority: 2  # like the trainings: started last, it would end alone


rule gallery:
    input:
        evaluations(seeds=SEEDS[:1]),
        "storylib/report/gallery.html",
    output:
        f"{ROOT}/executed/gallery.html",
    params:
        code=code_fingerprint("report.gallery", *EVALUATE_CODE),
    benchmark:
        f"{ROOT}/costs/gallery.tsv"
    log:
        f"{ROOT}/logs/gallery.log",
    threads: 1
    shell:
        "step 'the gallery of every test window (half a minute)' {log} {threads} {STORYLIB} gallery {OPTIONS} --output {output}"
