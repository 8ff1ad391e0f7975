"""The command line: `python -m ganse_tf` or `ganse-tf`. Exit codes: 0 done, 1 it did not work, 2 wrong usage."""

import json
import os
import sys
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ganse_tf import audio, catalogue, presets, scoring
from ganse_tf.version import __version__

DEFAULT_MODEL = "metricgan"  # preset used when --model is not given
CLASSICAL = ("wiener", "log_mmse", "stsa_mmse", "spectral_subtraction")  # of downstream/classical.py
PIPE_WIDTH = 160  # characters per line when the output is not a terminal
FLOAT_WAV = ("FLOAT", "DOUBLE")  # subtypes of WAV files that stay float


class Size(StrEnum):
    tiny = "tiny"
    paper = "paper"


class Commands(typer.core.TyperGroup):
    """One place for all bad input: a sentence on standard error and exit code 1, never a traceback."""

    def invoke(self, ctx):
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: typer.echo(f"ganse-tf: note: {message}", err=True)
            try:
                return super().invoke(ctx)
            except (typer.Exit, typer.Abort, BrokenPipeError):
                raise
            except KeyboardInterrupt:
                typer.echo("ganse-tf: stopped by you.", err=True)
                raise typer.Exit(130) from None
            except Exception as error:
                sentence = _sentence(error)
                if sentence is None or ctx.params.get("debug"):
                    raise
                typer.echo(f"ganse-tf: {sentence}", err=True)
                raise typer.Exit(1) from None


def _sentence(error):
    """What to tell the user, or None for what can only be a mistake of ours and needs its traceback."""
    tf = sys.modules.get("tensorflow")
    if isinstance(error, MemoryError) or tf and isinstance(error, tf.errors.ResourceExhaustedError):
        return "There is not enough memory. Give a smaller --batch-size, a --crop in seconds, or --preset tiny."
    if tf and isinstance(error, tf.errors.OpError):
        return f"TensorFlow says: {str(error).splitlines()[0]}"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: '{error.filename}'"
    known = (ValueError, OSError, ImportError, RuntimeError)
    return str(error) or type(error).__name__ if isinstance(error, known) else None


app = typer.Typer(cls=Commands, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


def examples(*lines):
    """The epilog of a help page."""
    return "\n\n".join(("Examples:", *(f"  ganse-tf {line}" for line in lines)))


def _print_version(wanted):
    if wanted:
        typer.echo(f"ganse_tf {__version__}")
        raise typer.Exit


@app.callback(epilog=examples("enhance noisy.wav enhanced.wav", "demo", "train segan --data toy --minutes 5"))
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show Python's traceback when something goes wrong.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
):
    """Speech enhancement with GANs: eleven papers to read, run and compare."""


# ---- look around -----------------------------------------------------------------------------------------------------


@app.command("list", epilog=examples("list", "list --markdown > papers.md"))
def list_papers(markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False):
    """List the papers: class, domain, parameters, released weights."""
    columns = ("class", "paper", "domain", "output", "G", "D", "weights")
    rows = [
        (row["class"], row["paper"], row["domain"], row["outputs"], _count(row["generator"]), _count(row["discriminator"]),
         ", ".join(row["presets"]) or "-")
        for row in catalogue.papers()
    ]  # fmt: skip
    if markdown:
        typer.echo(scoring.markdown_table(columns, rows))
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name in "GD" else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    _stdout().print(table)
    typer.echo("G, D: trainable weights at the paper's size. Output: speech to listen to, or features for a recogniser.")


def _count(number):
    return "-" if number is None else f"{number:,}"


@app.command(epilog=examples("card metricgan"))
def card(name: Annotated[str, typer.Argument(help="A released preset (`ganse-tf list`).")]):
    """Print how a released preset was trained, on what, and how it scores."""
    if name not in presets.cards():
        raise ValueError(f"There is no preset {name!r}. Released presets: {', '.join(presets.names()) or 'none'}.")
    typer.echo(name)
    facts = dict(presets.cards()[name])
    scores = facts.pop("scores", {})
    for key, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        typer.echo(f"  {key.replace('_', ' ')}: {text}")
    for corpus, rows in scores.items():
        typer.echo(f"  scores, {corpus}:")
        for label, means in rows.items():
            known = [(scoring.LABELS[m], value) for m, value in means.items() if m in scoring.LABELS]
            text = ", ".join(f"{title} {value:.{decimals}f}" for (title, decimals), value in known)
            typer.echo(f"    {label}: {text}")


@app.command("check", epilog=examples("check"))
def check_machine():
    """Check this machine: versions, device, disk space, PESQ and STOI."""
    _load_tensorflow()
    from ganse_tf import setup_check

    setup_check.check_setup()
    if any(status == "FIX" for status, _ in setup_check.findings()):
        raise typer.Exit(1)


# ---- enhance ---------------------------------------------------------------------------------------------------------


@app.command(
    epilog=examples(
        "enhance noisy.wav enhanced.wav", "enhance recordings/ enhanced/ --model mmsegan",
        "enhance noisy.flac enhanced/ --model runs/segan", "enhance noisy.wav enhanced.wav --model wiener",
    ),
)  # fmt: skip
def enhance(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An audio file, or a folder (its sub-folders are kept).")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File or folder to write; never the recording itself.")],
    model: Annotated[
        str, typer.Option(help=f"A released preset, a folder of `train`, or one of {', '.join(CLASSICAL)}.")
    ] = "",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist in OUT.")] = False,
):
    """Remove noise from a file or a folder. Any rate, mono or stereo; rate, length and format are kept."""
    jobs = _jobs(source, target, overwrite)
    name, clean = _enhancer(model)
    failed, seconds, start = [], 0.0, time.monotonic()
    with _bar() as bar:
        task = bar.add_task("Enhancing", total=len(jobs))
        for path, out in jobs:
            try:
                wav, rate = audio.read(path)
                audio.write(out, clean(wav, rate), rate, subtype=_subtype(path, out))
                seconds += len(wav) / rate
            except ValueError as error:
                if len(jobs) == 1:
                    raise
                failed.append(path)
                typer.echo(f"ganse-tf: {error}", err=True)
            bar.advance(task)
    took = time.monotonic() - start
    n = len(jobs) - len(failed)
    if n:
        typer.echo(f"Enhanced {_files(n)}, {seconds:.1f} s of sound, with {name} in {took:.1f} s: {target}")
    if failed:
        raise ValueError(f"{_files(len(failed))} of {len(jobs)} could not be enhanced; the reasons stand above.")


def _files(n):
    return f"{n} file{'s' if n != 1 else ''}"


def _jobs(source, target, overwrite):
    """[(recording, file to write)], checked before any work is done."""
    if source.is_dir():
        if target.is_file() or target.suffix.lower() in audio.AUDIO_SUFFIXES:
            raise ValueError(f"IN is the folder '{source}', so OUT must be a folder, not the file '{target}'.")
        inside = target.resolve()
        found = sorted(p for p in source.rglob("*") if p.suffix.lower() in audio.AUDIO_SUFFIXES and p.is_file())
        if inside != source.resolve():
            found = [p for p in found if inside not in p.resolve().parents]
        if not found:
            raise ValueError(f"'{source}' and its sub-folders hold no audio ({', '.join(audio.AUDIO_SUFFIXES)}).")
        jobs = [(path, target / path.relative_to(source)) for path in found]
    else:
        if not source.exists():
            audio.read(source)  # explains what is missing, with the nearest name
        folder = target.is_dir() or not target.suffix
        jobs = [(source, target / source.name if folder else target)]
    inputs = {path.resolve() for path, _ in jobs}
    own = [out for _, out in jobs if out.resolve() in inputs]
    if own:
        raise ValueError(f"This would overwrite the recording itself, '{own[0]}'. Give another OUT.")
    existing = [out for _, out in jobs if out.exists()]
    if existing and not overwrite:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise ValueError(f"'{existing[0]}'{more} exists already. Give another OUT, or --overwrite to replace it.")
    return jobs


def _subtype(path, out):
    """Float WAV files stay float, everything else is written with 16 bits."""
    import soundfile

    if out.suffix.lower() == ".wav" and path.suffix.lower() == ".wav" and soundfile.info(path).subtype in FLOAT_WAV:
        return "FLOAT"
    return "PCM_16"


def _enhancer(name):
    """(name, function (wav, rate) -> wav) of a preset, a trained run or a classical method."""
    if name in CLASSICAL:
        from ganse_tf.downstream import classical

        return name, getattr(classical, name)
    released = presets.names()
    if not name:
        if not released:
            raise ValueError(
                "There are no released weights in this copy of ganse_tf. Train some (ganse-tf train segan --data toy --minutes "
                f"10) and give --model runs/segan, or use a classical method: --model {CLASSICAL[0]}."
            )
        name = DEFAULT_MODEL if DEFAULT_MODEL in released else released[0]
    path = Path(name)
    if name not in released and not path.exists():
        raise ValueError(
            f"There is no model {name!r}. Released presets: {', '.join(released) or 'none'}; classical methods: "
            f"{', '.join(CLASSICAL)}; or give a folder that `ganse-tf train` wrote."
        )
    _load_tensorflow()
    from ganse_tf import runs

    model = presets.from_preset(name) if name in released else runs.load(path)
    return name, model.enhance


# ---- evaluate --------------------------------------------------------------------------------------------------------


@app.command(
    epilog=examples(
        "evaluate --clean clean/ --enhanced enhanced/", "evaluate --clean c/ --enhanced e/ --noisy n/ --csv scores.csv",
    ),
)  # fmt: skip
def evaluate(
    clean: Annotated[Path, typer.Option(help="Folder of clean files.")],
    enhanced: Annotated[Path, typer.Option(help="Folder of enhanced files of the same names.")],
    noisy: Annotated[Path | None, typer.Option(help="Folder of the noisy files: adds their row, which comes first.")] = None,
    metrics: Annotated[str, typer.Option(help="Names separated by commas, for example pesq_wb,stoi,si_sdr.")] = "",
    csv: Annotated[Path | None, typer.Option(help="Also write one line per file.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes for scoring; 0 scores in this one.")] = 0,
):
    """Score enhanced files against clean ones: PESQ, STOI, SI-SDR, SSNR, CSIG, CBAK, COVL."""
    names = [name.strip() for name in metrics.split(",") if name.strip()] or None
    tables = {}
    for label, folder in (("noisy", noisy), ("enhanced", enhanced)):
        if folder is not None:
            tables[label] = scoring.evaluate_folders(clean, folder, metrics=names, workers=workers)
    typer.echo(scoring.markdown(tables))
    if csv is not None:
        tables["enhanced"].to_csv(csv)
        typer.echo(f"\nOne line per file: {csv}")


@app.command(epilog=examples("calibrate voicebank/ --workers 2"))
def calibrate(
    folder: Annotated[Path, typer.Argument(help="VoiceBank+DEMAND as `ganse-tf prepare` made it, or its two test folders.")],
    workers: Annotated[int, typer.Option(min=0, help="Processes for scoring.")] = 0,
):
    """Compare the noisy VoiceBank+DEMAND test set with the published row. Exit code 1 if it differs."""
    from data_prep import calibrate as calibration

    result = calibration.calibrate(folder, workers=workers)
    typer.echo(str(result))
    if not result.ok:
        raise typer.Exit(1)


# ---- data, training, demo --------------------------------------------------------------------------------------------


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}, add_help_option=False,
    short_help="Download or read a corpus and write 16 kHz audio with a manifest.",
)  # fmt: skip
def prepare(ctx: typer.Context):
    """Forwards to `python -m data_prep`."""
    from data_prep.__main__ import app as data_prep

    data_prep(ctx.args or ["--help"], prog_name="ganse-tf prepare")


@app.command(
    epilog=examples(
        "train segan --data toy --minutes 5", "train metricgan --data voicebank/ --preset paper --epochs 200",
        "train cgan --data voicebank/ --epochs 10 --out runs/a", "enhance noisy.wav out.wav --model runs/a",
    ),
)  # fmt: skip
def train(
    model: Annotated[str, typer.Argument(help="A paper (`ganse-tf list`), for example segan.")],
    data: Annotated[
        str, typer.Option(help="toy, a folder with noisy/ and clean/, one with speech/ and noise/, or a manifest.csv.")
    ] = "toy",
    preset: Annotated[Size, typer.Option(help="tiny: minutes on a laptop. paper: the published sizes.")] = Size.tiny,
    epochs: Annotated[int | None, typer.Option(min=1, help="In all. Default: 10, or as many as --minutes allow.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time; the same command goes on.")] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Examples per step. Default: 16 (MetricGAN: 1).")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the training. Default: runs/MODEL.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Pairs per epoch. Default: all.")] = None,
    crop: Annotated[float | None, typer.Option(help="Seconds of a random stretch of every pair.")] = None,
    validate: Annotated[int, typer.Option(min=0, help="Validation pairs scored after every epoch.")] = 4,
    adversarial_weight: Annotated[float, typer.Option(min=0, help="0 trains the generator alone.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of weights, order and noise.")] = 0,
):
    """Train a model; run the same command again to go on after a stop or a crash.

    OUT gets model.keras, history.csv and curves.png.
    """
    if minutes is not None and minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not a time; give a number above 0.", param_hint="--minutes")
    name = catalogue.class_name(model)
    _load_tensorflow()
    from ganse_tf import runs, terminal

    out = out or Path("runs") / model.lower()
    plan = runs.Plan(name, preset.value, data, batch_size, crop, limit, adversarial_weight, seed)
    goal = epochs or (sys.maxsize if minutes else 10)

    def show():
        return terminal.LiveCurves(Console(), f"{name} ({preset.value})", epochs=epochs or (None if minutes else goal),
                                   minutes=minutes)  # fmt: skip

    try:
        done = runs.train(plan, out, goal, minutes=minutes, validate=validate, show=show, say=typer.echo)
    except KeyboardInterrupt:
        typer.echo("\nStopped. The same command goes on from the last whole epoch.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"{done} epochs done. In {out}: model.keras, history.csv, curves.png")
    typer.echo(f"Listen: ganse-tf enhance noisy.wav enhanced.wav --model {out}")


@app.command(epilog=examples("demo", "demo --out demo --minutes 2"))
def demo(
    out: Annotated[Path, typer.Option(help="Folder to fill.")] = Path("demo"),
    minutes: Annotated[float, typer.Option(help="Time for training the tiny SEGAN.")] = 1.0,
    pairs: Annotated[int, typer.Option(min=1, help="Noisy test utterances to enhance and score.")] = 8,
):
    """Enhance noisy speech, train a tiny SEGAN for a minute, score everything, write a page to listen to.

    Needs no data and no network: the speech is synthetic and comes with the package.
    """
    if minutes <= 0:
        raise typer.BadParameter(f"{minutes} is not a time; give a number above 0.", param_hint="--minutes")
    _load_tensorflow()
    from ganse_tf import demo as show

    show.run(out, minutes=minutes, n_pairs=pairs, console=_stdout())


# ---- shared ----------------------------------------------------------------------------------------------------------


def _stdout():
    """A console that does not fold tables at 80 characters when its output goes to a file."""
    return Console() if sys.stdout.isatty() else Console(width=PIPE_WIDTH)


def _bar():
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _load_tensorflow():
    """Import TensorFlow, without the lines that its C++ part writes before Python can ask it to be quiet."""
    if "tensorflow" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.stderr.isatty():
        typer.echo("Loading TensorFlow ...", err=True)
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow  # noqa: F401, the point is to have it loaded
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def main():
    """Entry point of `ganse-tf`."""
    os.environ.setdefault("MPLBACKEND", "Agg")  # pictures go to files, never to windows
    app(prog_name="ganse-tf")


if __name__ == "__main__":
    main()
