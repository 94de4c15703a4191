"""The workflow from stories to the book: features -> runs -> chapters -> book.

`make book` and `make runs` call it; by hand:

    STORYLIB_SOURCE=storyworld .venv/bin/python -m snakemake --cores 2 -- book

    (add --dry-run to see what would be done, and why)

The source is in the environment, where neither a shell nor Snakemake reads anything into its name. Each job leaves a
small receipt; the records themselves are in runs/, where storylib finds them by their id. A job is done again when one
of its input files, its configuration in experiments.yml, its command or the code that it runs has changed. Code is
compared by `code_fingerprint`, so a changed comment repeats nothing.

Libraries take seconds to import. So on one machine all arms of a seed are trained and evaluated in one
process, and chapters share a kernel. On a cluster each arm and seed is a job.
"""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

from storylib.config import build_name, configure, experiments, seeds, slug
from storylib.data.code import code_fingerprint
from storylib.report.workflow import notebook_fingerprint
from storylib.sources import source_fingerprint

SOURCE = os.environ.setdefault("STORYLIB_SOURCE", "storyworld")
PROFILE = config.get("profile", "quick")
ROOT = f"_build/{build_name(SOURCE, PROFILE)}"
STORYLIB = f"{shlex.quote(sys.executable)} -m storylib"
STEP = f"{shlex.quote(sys.executable)} storylib/report/step.py"
OPTIONS = f"--profile {PROFILE}"
PLAN = experiments()
ARMS = list(PLAN["arms"])
COMPARED = list(PLAN["ablation"]["arms"].values())  # the two arms of the ablation; 02, 03 and 05 show the first
SEEDS = seeds(PROFILE)
POINTS = PLAN.get("sweeps", {}) | PLAN.get("sweeps_of", {}).get(SOURCE, {})  # of each sweep
SWEEPS = {slug(name): name for name in POINTS}
TRAININGS = {arm: [arm] for arm in ARMS} if config.get("cluster") else {"arms": ARMS}  # the arms of one job

# The modules that a stage runs, with all that they import. A stage names those of the stages before it too: after a
# killed run two receipts may be equal although the code between them has changed.
FEATURES_CODE = ["data.features", "sources." + SOURCE.partition(":")[0]]
RUNS_CODE = [*FEATURES_CODE, "data.splits", "training", "experiments.runs"]

FEATURES = f"{ROOT}/features.json"
PUBLISHED = [f"{ROOT}/published/{name}" for name in (*(f"ablation-{p}" for p in PLAN["presets"]), "audit", *(f"sweep-{s}" for s in SWEEPS))]
LONG = {"mem_mb": 6000, "runtime": 300}  # MB, and minutes of a job that trains many models one after another


def runs(arms=ARMS, seeds=SEEDS):
    jobs = [job for job, trained in TRAININGS.items() if set(arms) & set(trained)]
    return expand(f"{ROOT}/runs/{{job}}-seed{{seed}}.json", job=jobs, seed=seeds)


def receipts():
    # Snakemake does not make a missing intermediate file again while what comes after it exists: after a failed run it
    # would call a stale book up to date. Requesting every receipt by name excludes that.
    return [FEATURES, *runs()]


def records(*kinds):
    """Published records that a chapter reads."""
    return [str(path) for kind in kinds for path in sorted(Path("results").glob(f"{kind}/*.json"))]


# What each chapter reads. One that is not named here reads every run.
READS = {
    "00_findings": records("ablation", "audit", "sweeps", "oracle"),
    "01_data": [FEATURES, *records(".", "benchmarks")],
    "02_train": runs(COMPARED[:1], SEEDS[:1]),
    "03_evaluate": runs(COMPARED[:1]),
    "04_ablation": [*runs(COMPARED), *records("ablation", "sweeps", "oracle", "influence")],
    "05_audit": [*runs(COMPARED[:1], SEEDS[:1]), *records("audit", "ablation")],
    "06_cost": [*runs(), *records("benchmarks")],  # and the costs of the jobs until then
    "07_your_story": [str(path) for path in sorted(Path("storylib/report/bundled").glob("*"))],
    "08_rerun": runs(COMPARED[:1], SEEDS[:1]),
}
NOTEBOOKS = sorted(Path("notebooks").glob("*.ipynb"))
CHAPTERS = {path.stem: READS.get(path.stem, runs()) for path in NOTEBOOKS}
FIRST = [FEATURES, *runs(seeds=SEEDS[:1])]  # a chapter that needs no more is executed beside the other trainings
LATE = [name for name, reads in CHAPTERS.items() if set(reads) & set(runs()) - set(FIRST)]
KERNELS = {"early": [name for name in CHAPTERS if name not in LATE]} | ({"late": LATE} if LATE else {})


wildcard_constraints:
    job="|".join(TRAININGS),
    seed=r"\d+",
    chapter="|".join(CHAPTERS),
    kernel="|".join(KERNELS),
    preset="|".join(PLAN["presets"]),
    sweep="|".join(SWEEPS),


rule book:
    input:
        receipts(),
        "_build/html/book.json",


# The full profile also publishes its numbers in results/: the ablation of every preset, every sweep and the audit.
rule runs:
    input:
        receipts(),
        PUBLISHED if PROFILE == "full" else [],


rule render:
    input:
        chapters=expand(f"{ROOT}/chapters/{{kernel}}.json", kernel=KERNELS),
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
        "{STEP} {threads} {log} 'building the book, strictly'"
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
        "{STEP} {threads} {log} 'listing the authors of the stories' {STORYLIB} credits {OPTIONS} --output {output}"


rule features:
    output:
        FEATURES,
    params:
        stories=source_fingerprint(SOURCE),  # of files that a user may change
        settings=dataclasses.asdict(configure(PROFILE, source=SOURCE).data),
        code=code_fingerprint(*FEATURES_CODE),
    log:
        f"{ROOT}/logs/features.log",
    threads: workflow.cores or 4  # a job on a cluster requests four
    shell:
        "{STEP} {threads} {log} 'reading the stories and encoding every picture and text once'"
        " {STORYLIB} features {OPTIONS} --receipt {output}"


rule run:
    input:
        FEATURES,
    output:
        f"{ROOT}/runs/{{job}}-seed{{seed}}.json",
    params:
        # a changed arm repeats that arm, and a comment in experiments.yml nothing
        settings=lambda w: [
            configure(PROFILE, arm, source=SOURCE, seed=int(w.seed)).flat() for arm in TRAININGS[w.job]
        ],
        arms=lambda w: " ".join(f"--arm {arm}" for arm in TRAININGS[w.job]),
        names=lambda w: " and ".join(TRAININGS[w.job]),
        code=code_fingerprint(*RUNS_CODE),
    log:
        f"{ROOT}/logs/runs-{{job}}-seed{{seed}}.log",
    threads: 1
    # The longest jobs first, and of them the seed that chapters wait for, so that no core is idle at the end.
    priority: lambda w: 3 if int(w.seed) == SEEDS[0] else 2
    shell:
        "{STEP} {threads} {log} 'training and evaluating {params.names}, seed {wildcards.seed}'"
        " {STORYLIB} evaluate {OPTIONS} {params.arms} --seed {wildcards.seed} --receipt {output}"


rule ablation:
    input:
        receipts(),
    output:
        touch(f"{ROOT}/published/ablation-{{preset}}"),
    params:
        settings=lambda w: PLAN["presets"][w.preset],
        code=code_fingerprint("experiments.ablation", *RUNS_CODE),
    log:
        f"{ROOT}/logs/publish-ablation-{{preset}}.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "{STEP} {threads} {log} 'the ablation of {wildcards.preset}' {STORYLIB} ablation {OPTIONS} --preset {wildcards.preset}"


rule sweep:
    input:
        FEATURES,
    output:
        touch(f"{ROOT}/published/sweep-{{sweep}}"),
    params:
        name=lambda w: shlex.quote(SWEEPS[w.sweep]),
        points=lambda w: POINTS[SWEEPS[w.sweep]],
        code=code_fingerprint("experiments.sweeps", *RUNS_CODE),
    log:
        f"{ROOT}/logs/publish-sweep-{{sweep}}.log",
    threads: 1
    resources:
        **LONG,
    shell:
        "{STEP} {threads} {log} 'the sweep {wildcards.sweep}' {STORYLIB} sweep {OPTIONS} --only {params.name}"


rule audit:
    input:
        FEATURES,
    output:
        touch(f"{ROOT}/published/audit"),
    params:
        plan=PLAN.get("audit"),
        code=code_fingerprint("audit.ladders", *RUNS_CODE),
    log:
        f"{ROOT}/logs/publish-audit.log",
    threads: 1
    resources:
        **LONG,
    priority: 1
    shell:
        "{STEP} {threads} {log} 'the ladders of the published systems' {STORYLIB} audit {OPTIONS}"


# The content of all that a chapter shows. Its kernel executes again only chapters whose content differs.
rule content:
    input:
        lambda w: CHAPTERS[w.chapter],
        notebook="notebooks/{chapter}.ipynb",
    output:
        f"{ROOT}/contents/{{chapter}}",
    params:
        code=lambda w: notebook_fingerprint(Path("notebooks", f"{w.chapter}.ipynb")),
        plan=lambda w: PLAN.get("audit") if w.chapter == "05_audit" else None,  # the other chapters do not read it
    shell:
        "(git hash-object {input:q}; echo {params.code} {params.plan:q}) > {output:q}"


rule chapters:
    input:
        lambda w: expand(f"{ROOT}/contents/{{chapter}}", chapter=KERNELS[w.kernel]),
    output:
        f"{ROOT}/chapters/{{kernel}}.json",
    params:
        names=lambda w: ", ".join(KERNELS[w.kernel]),
        executed=f"{ROOT}/executed",
    log:
        f"{ROOT}/logs/chapters-{{kernel}}.log",
    threads: 1
    priority: 1
    shell:
        "{STEP} {threads} {log} 'executing the chapters {params.names}'"
        " {STORYLIB} chapters {input} {OPTIONS} --executed {params.executed} --receipt {output}"


rule gallery:
    input:
        runs(seeds=SEEDS[:1]),
        "storylib/report/gallery.html",
    output:
        f"{ROOT}/executed/gallery.html",
    params:
        code=code_fingerprint("report.gallery", *RUNS_CODE),
    log:
        f"{ROOT}/logs/gallery.log",
    threads: 1
    shell:
        "{STEP} {threads} {log} 'the gallery of every test window' {STORYLIB} gallery {OPTIONS} --output {output}"
