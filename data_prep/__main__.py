"""`python -m data_prep CORPUS --out DIR`: download or read a corpus, write 16 kHz audio and a manifest.

The program `ganse-tf prepare` forwards to the same command.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from data_prep import prepare, protocols
from data_prep.corpus import PrepError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
BAR_STEP = 0.01  # share of the work between two lines when the output is not a terminal


@app.command(no_args_is_help=True)
def main(
    corpus: Annotated[str, typer.Argument(help=f"One of: {', '.join(prepare.NAMES)}.")],
    out: Annotated[Path | None, typer.Option(help="Folder to fill. Without it only the corpus' card is printed.")] = None,
    parts: Annotated[str, typer.Option(help="Subsets, separated by commas, for example dev-clean,test-clean.")] = "",
    protocol: Annotated[str, typer.Option(help=f"Recipe of a paper: {', '.join(protocols.PROTOCOLS)}.")] = "",
    source: Annotated[
        list[str] | None,
        typer.Option(help="Folder of your own copy, for this corpus (DIR) or another one (NAME=DIR); may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many recordings (utterances) per split.")] = None,
    accept_license: Annotated[bool, typer.Option("--accept-license", help="I have read the licences printed.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Hash every archive and file again.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes. The result does not depend on it.")] = 1,
    seed: Annotated[int, typer.Option(help="Of all random draws.")] = 0,
    mirror: Annotated[str, typer.Option(help="voicebank_demand only: huggingface (16 kHz copy).")] = "",
):
    """Prepare CORPUS: download or read it, check it, convert it to 16 kHz, write audio and a manifest.

    Interrupted (even killed) runs go on where they stopped when the same command is given again.
    """
    try:
        module = prepare.corpus_module(corpus)
        if out is None:
            typer.echo(module.CARD.text())
            typer.echo("\nNothing was done: say where to with --out DIR.")
            return
        bars = Bars()
        with bars:
            run = prepare.Run(
                out, sources=_sources(source, corpus), accept_license=accept_license, workers=workers, seed=seed,
                verify=verify, say=bars.say, progress=bars.step,
            )  # fmt: skip
            wanted = [part.strip() for part in parts.split(",") if part.strip()] or None
            recipe = protocols.choose(protocol, corpus) if protocol else None
            if recipe is not None and recipe.kind == "mix":
                if mirror:
                    raise PrepError(f"--mirror cannot be combined with --protocol {protocol}.")
                prepare.follow(recipe, corpus, run, parts=wanted, limit=limit)
            else:
                prepare.prepare(corpus, run, parts=wanted, limit=limit, mirror=mirror, protocol=recipe)
    except PrepError as error:
        typer.echo(f"data_prep: {error}", err=True)
        raise typer.Exit(1) from error


def _sources(entries, corpus):
    """["DIR", "NAME=DIR"] -> {corpus: DIR, NAME: DIR}."""
    found = {}
    for entry in entries or []:
        name, equals, path = entry.partition("=")
        if equals and name in (*prepare.NAMES, prepare.OWN_NOISES):
            found[name] = path
        elif corpus in found:
            raise PrepError(f"--source {entry}: {corpus} has two sources. Other corpora are given as NAME=DIR.")
        else:
            found[corpus] = entry
    return found


class Bars:
    """Progress on standard error: a bar on a terminal, a line per step of the work elsewhere."""

    def __init__(self):
        self.live, self.tasks, self.last = None, {}, {}

    def __enter__(self):
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self.live = progress.Progress(
                progress.TextColumn("{task.description}"), progress.BarColumn(), progress.TaskProgressColumn(),
                progress.TimeRemainingColumn(), console=Console(stderr=True), transient=True,
            )  # fmt: skip
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live:
            self.live.stop()

    def say(self, line):
        if self.live:  # above the bar, on the same console
            self.live.console.print(line, markup=False, highlight=False)
        else:
            typer.echo(line)

    def step(self, what, done, total):
        if self.live:
            if what not in self.tasks:
                self.tasks[what] = self.live.add_task(what, total=total)
            self.live.update(self.tasks[what], completed=done, total=total)
        elif total and (done == total or done / total - self.last.get(what, 0.0) >= BAR_STEP * 10):
            self.last[what] = done / total
            typer.echo(f"  {what}: {100 * done / total:.0f} %", err=True)


if __name__ == "__main__":
    app()
