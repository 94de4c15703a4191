"""The command line: ``storylib VERB`` or ``python -m storylib VERB``. Each verb imports only what it needs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from storylib import __version__
from storylib.config import ConfigError, configure

app = typer.Typer(
    name="storylib",
    help="Predict the next frame of an illustrated story, and measure what a contrastive loss adds.",
    epilog="Example: storylib train --source picture_books --set contrastive_weight=0.5 --seed 3",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help, without the import of rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0, 2 for an error of the user or of the data, or 130 after an interrupt.

    Every exception class of this package is such an error and becomes one message on stderr; any other exception is a
    fault in the code and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for noisy in ("httpx", "absl", "filelock"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        if sys.getfilesystemencoding() != "utf-8":  # the C locale where UTF-8 was turned off, or an old one
            raise ConfigError("This terminal's file names are not UTF-8: set PYTHONUTF8=1 and call again.")
        app(args=arguments, prog_name="storylib")
    except SystemExit as stop:  # raised by typer, also for a wrong option and an interrupt
        if stop.code == 130:
            print("Stopped. The same command continues from here.", file=sys.stderr)
        return int(stop.code or 0)
    except Exception as error:
        ours = type(error).__module__.partition(".")[0] == "storylib"
        if not ours and not (isinstance(error, OSError) and error.filename):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


# One spelling of each option, for every verb.
SOURCES = "Where the stories come from: storyworld, picture_books, folder:PATH ..."
Source = Annotated[str, typer.Option(help=SOURCES, envvar="STORYLIB_SOURCE")]
Profile = Annotated[str, typer.Option(help="How much is run: a profile of experiments.yml.")]
Arms = Annotated[list[str] | None, typer.Option(help="An arm of experiments.yml; may be repeated.")]
Preset = Annotated[str | None, typer.Option(help="A preset of experiments.yml.")]
Sweeps = Annotated[list[str] | None, typer.Option(help="A sweep of experiments.yml; may be repeated.")]
Seed = Annotated[int, typer.Option(help="Seed of the training.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting; may be repeated.")]
Strict = Annotated[bool, typer.Option("--strict", help="An error for what would be left out, and unreadable texts.")]
Receipt = Annotated[Path | None, typer.Option(help="A small JSON file to write when done.")]
Output = Annotated[Path, typer.Option(help="What to write.")]
Cores = Annotated[int | None, typer.Option(help="Processor cores to use; all of them by default.", min=1)]
Cluster = Annotated[str, typer.Option(help="A folder of profiles/: send the jobs to this scheduler.")]


def verb(name: str, help: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command whose help ends with an example."""
    return app.command(name, help=help, epilog=f"Example: storylib {name} {example}")


def _add_stage(name: str, help: str, example: str) -> None:
    @verb(name, help, example)
    def stage(
        source: Source = "storyworld",
        profile: Profile = "quick",
        arm: Arms = None,
        preset: Preset = None,
        seed: Seed = 0,
        device: Device = "auto",
        settings: Settings = None,
        receipt: Receipt = None,
        strict: Strict = False,
    ) -> None:
        from storylib.data.store import check_writable, write_atomically

        values = {name: _parsed(value) for name, value in _split(settings).items()}
        values = {"source": source, "seed": seed, "device": device} | values
        check_writable()
        configs = [configure(profile, one, preset, **values) for one in arm or (None,)]
        done = [run_stage(name, config, strict) for config in configs]
        if receipt:
            write_atomically(receipt, json.dumps(done, indent=2))


_add_stage("features", "Read the stories and encode every picture and text once.", "--source picture_books")
_add_stage("train", "Train one run, or find it if it is there already.", "--arm contrastive-on --seed 3")
_add_stage("evaluate", "Train one run if needed and score it on held-out stories.", "--preset system_b --profile full")


def run_stage(stage: str, config: Any, strict: bool = False) -> dict[str, Any]:
    """Do a stage and all before it. Returns a receipt that changes if and only if the result does."""
    from storylib.data.store import file_sha256
    from storylib.experiments.runs import evaluate_run, prepare, train

    data = prepare(config, strict, training=stage != "features")
    receipt = {"features": data.features.fingerprint, "stories": len(data.stories)}
    if stage != "features":
        run = train(config, data)
        receipt |= {"run": run.id, "weights": file_sha256(run.weights)[:16]}
        if stage == "evaluate":
            evaluate_run(run, data)
            receipt["metrics"] = file_sha256(run.path / "metrics.json")[:16]
    return receipt


@verb("ablation", "Train and publish both arms of a preset, every seed.", "--source picture_books --preset system_b")
def ablation(source: Source = "storyworld", profile: Profile = "quick", preset: Preset = None) -> None:
    from storylib.experiments.ablation import publish_ablation
    from storylib.experiments.studies import OURS

    typer.echo(publish_ablation(source, profile, preset or OURS))


@verb("sweep", "Train and publish the sweeps: where the loss matters.", "--only weight --only fusion --profile full")
def sweep(source: Source = "storyworld", profile: Profile = "quick", only: Sweeps = None) -> None:
    from storylib.experiments.sweeps import publish_sweeps

    typer.echo(publish_sweeps(source, profile, only or []))


@verb("audit", "Run and publish the ladders of the published systems.", "--source picture_books")
def audit(source: Source = "storyworld", profile: Profile = "quick") -> None:
    from storylib.audit.ladders import publish

    typer.echo(publish(source, profile))


@verb("cache", "List the parts of the cache; each may be deleted.", "")
def cache() -> None:
    from storylib.data.store import describe_cache

    typer.echo(describe_cache())


def _add_target(target: str, help: str, example: str) -> None:
    @verb(target, help, example)
    def run_target(
        source: Source = "storyworld", profile: Profile = "quick", cores: Cores = None, cluster: Cluster = ""
    ) -> None:
        from storylib.report.workflow import run_workflow

        raise typer.Exit(run_workflow(target, source, profile, cores, cluster))


_add_target("book", "Do whatever the book needs and build it, as make book does.", "--source picture_books")
_add_target("runs", "Do every training and evaluation, without the book.", "--profile full --cluster slurm")


@verb("notebook", "Execute a notebook; write it if it ran to the end.", "notebooks/02_train.ipynb --output a.ipynb")
def notebook(
    notebook: Annotated[Path, typer.Argument(help="The notebook to execute.")],
    output: Output,
    settings: Settings = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures that the notebook saves.")] = None,
) -> None:
    from storylib.report.notebooks import run_notebook

    typer.echo(run_notebook(notebook, output, _split(settings), figures))


@verb("chapters", "Execute chapters whose content has changed, in one kernel.", "contents/02_train --executed executed")
def chapters(
    contents: Annotated[list[Path], typer.Argument(help="A file per chapter, with its name and what it depends on.")],
    executed: Annotated[Path, typer.Option(help="Folder for notebooks/ and figures/.")],
    source: Source = "storyworld",
    profile: Profile = "quick",
    receipt: Receipt = None,
) -> None:
    from storylib.data.store import write_atomically
    from storylib.report.notebooks import run_chapters

    done = run_chapters(contents, executed, {"source": source, "profile": profile})
    if receipt:
        write_atomically(receipt, json.dumps(done))


@verb("render", "Build the book of executed notebooks.", "--executed _build/storyworld-quick/executed --output _build")
def render(
    executed: Annotated[Path, typer.Option(help="Folder with notebooks/, figures/, gallery.html and credits.md.")],
    output: Output,
) -> None:
    from storylib.report.book import build_book

    typer.echo(f"The book is ready: open {build_book(executed.resolve(), output.resolve())}")


@verb("gallery", "Write one HTML page of every test window of both arms.", "--output gallery.html")
def gallery(output: Output, source: Source = "storyworld", profile: Profile = "quick") -> None:
    from storylib.report.gallery import make_gallery

    typer.echo(make_gallery(source, profile, output))


@verb("credits", "Write who made the stories of a source, as Markdown.", "--output credits.md")
def credits(output: Output, source: Source = "storyworld", profile: Profile = "quick") -> None:
    from storylib.data.store import write_atomically
    from storylib.report.acknowledgements import acknowledge

    write_atomically(output, acknowledge(source, configure(profile, source=source).data.stories))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit()


def _split(settings: list[str] | None) -> dict[str, str]:
    """NAME=VALUE, several times, as a dictionary of texts."""
    pairs = {}
    for text in settings or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not NAME=VALUE, as in epochs=20.")
        pairs[name] = value
    return pairs


def _parsed(value: str) -> Any:
    """A number, true, false or null where the value reads as one; otherwise the text."""
    try:
        return json.loads(value)
    except ValueError:
        return value


if __name__ == "__main__":
    sys.exit(main())
