"""Training in a terminal: progress and small live curves, drawn with `rich`; a line now and then where there is no terminal."""

import math
import time

import keras
import numpy as np
from rich import box
from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

LEVELS = "▁▂▃▄▅▆▇█"
CURVE_WIDTH = 40  # characters
REDRAW_SECONDS = 0.25
LINE_SECONDS = 10.0  # between two lines where there is no terminal


def sparkline(values, width=CURVE_WIDTH):
    """Numbers as a row of blocks, lowest to highest; long series are averaged down to `width`, NaN is a blank.

    Example:
        >>> sparkline([0, 1, 2, 3, 4, 5, 6, 7])
        '▁▂▃▄▅▆▇█'
    """
    values = np.asarray(values, np.float64)
    if len(values) > width:
        values = np.array([np.mean(part) for part in np.array_split(values, width)])
    good = values[np.isfinite(values)]
    if not good.size:
        return " " * len(values)
    low, span = good.min(), max(np.ptp(good), 1e-12)
    top = len(LEVELS) - 1
    return "".join(LEVELS[round((v - low) / span * top)] if math.isfinite(v) else " " for v in values)


def clock(seconds):
    """67 -> "1:07"."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class LiveCurves(keras.callbacks.Callback):
    """Shows a running training: time, epoch, step, and one small curve per logged value.

    Args:
        console: rich.console.Console to draw on.
        title: what is trained.
        epochs: planned number, or None if only the time counts.
        minutes: time budget, or None.
        names: logged values to show; None shows all.
        skip_first: start the clock after the first step, in which TensorFlow builds its graph.

    Use it as a context manager around ``fit``: when training stops for any reason the display is taken down, and its last
    values are printed in one line.
    """

    def __init__(self, console, title, epochs=None, minutes=None, names=None, skip_first=False):
        super().__init__()
        self.console, self.title, self.epochs, self.minutes, self.names = console, title, epochs, minutes, names
        self.skip_first, self.unsaid = skip_first, False
        self.history, self.now, self.epoch, self.steps = {}, {}, 1, 0
        self.start = self.drawn = self.said = time.monotonic()
        self.live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None

    def __enter__(self):
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_):
        if self.live:
            self.live.stop()
        if self.unsaid:
            self._say()

    def on_train_begin(self, logs=None):
        self.start = time.monotonic()
        if self.live:
            self.live.update(Text(f"{self.title}  building the graph: the first step takes longer"), refresh=True)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == 1 and self.skip_first:
            self.start = time.monotonic()
        self._take(logs)
        if self.live and time.monotonic() - self.drawn > REDRAW_SECONDS:
            self.drawn = time.monotonic()
            self.live.update(self.picture(), refresh=True)

    def on_epoch_end(self, epoch, logs=None):
        self._take(logs)
        for name, value in self.now.items():
            self.history.setdefault(name, []).append(value)
        self.unsaid = True
        if not self.live and time.monotonic() - self.said > LINE_SECONDS:
            self._say()

    def _say(self):
        """Print where training stands, in one line."""
        self.said, self.unsaid = time.monotonic(), False
        values = "  ".join(f"{name} {value:.4g}" for name, value in self.now.items())
        self.console.print(f"{self.headline()}  {values}", soft_wrap=True, highlight=False, markup=False)

    def _take(self, logs):
        chosen = self.names or list(logs or {})
        self.now.update({name: float(logs[name]) for name in chosen if name in (logs or {})})

    def headline(self):
        """'SEGAN  1:07 of 5:00  epoch 3 of 10  step 120'."""
        passed = clock(time.monotonic() - self.start)
        budget = f" of {clock(60 * self.minutes)}" if self.minutes else ""
        goal = f" of {self.epochs}" if self.epochs else ""
        return f"{self.title}  {passed}{budget}  epoch {self.epoch}{goal}  step {self.steps}"

    def picture(self):
        """The display: headline, bar, curves."""
        done, goal = (self.epoch - 1, self.epochs) if self.epochs else (time.monotonic() - self.start, 60 * (self.minutes or 1))
        table = Table(box=box.SIMPLE, show_header=True, header_style="", pad_edge=False)
        table.add_column("value")
        table.add_column("epoch by epoch", min_width=CURVE_WIDTH)
        table.add_column("now", justify="right")
        for name, value in self.now.items():
            table.add_row(name, sparkline(self.history.get(name, [])), f"{value:.4g}")
        return Group(Text(self.headline()), ProgressBar(total=goal, completed=min(done, goal), width=CURVE_WIDTH), table)
