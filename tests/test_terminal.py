"""The display of a running training: small curves, the headline, lines where there is no terminal."""

import io

import numpy as np
from rich.console import Console

from ganse_tf import terminal


def show(display, epochs=2, steps=3):
    with display:
        display.on_train_begin()
        for epoch in range(epochs):
            display.on_epoch_begin(epoch)
            for step in range(steps):
                display.drawn = 0.0  # redraw at every step
                display.on_train_batch_end(step, {"g_loss": 10.0 - epoch, "d_loss": 0.5})
            display.said = -100.0  # a line after every epoch
            display.on_epoch_end(epoch, {"g_loss": 10.0 - epoch, "d_loss": 0.5, "val_stoi": 0.8})


def test_sparkline_spans_its_values():
    assert terminal.sparkline([1.0, 2.0]) == "▁█"
    assert terminal.sparkline([3.0, np.nan, 1.0]) == "█ ▁"
    assert terminal.sparkline([]) == "" and terminal.sparkline([np.nan]) == " "
    assert terminal.sparkline([5.0, 5.0]) == "▁▁"
    assert len(terminal.sparkline(range(1000), width=40)) == 40
    assert terminal.clock(67.9) == "1:07"


def test_without_a_terminal_there_is_a_line_per_epoch():
    file = io.StringIO()
    show(terminal.LiveCurves(Console(file=file), "SEGAN", epochs=2))
    lines = file.getvalue().splitlines()
    assert lines == [
        "SEGAN  0:00  epoch 1 of 2  step 3  g_loss 10  d_loss 0.5  val_stoi 0.8",
        "SEGAN  0:00  epoch 2 of 2  step 6  g_loss 9  d_loss 0.5  val_stoi 0.8",
    ]


def test_lines_are_rare_when_epochs_are_short_but_the_last_is_printed():
    file = io.StringIO()
    display = terminal.LiveCurves(Console(file=file), "SEGAN", epochs=30)
    with display:
        display.on_train_begin()
        for epoch in range(30):
            display.on_epoch_begin(epoch)
            display.on_epoch_end(epoch, {"g_loss": 1.0})
    assert [line.split("  ")[2] for line in file.getvalue().splitlines()] == ["epoch 30 of 30"]


def test_on_a_terminal_curves_are_drawn_and_taken_down():
    file = io.StringIO()
    display = terminal.LiveCurves(Console(file=file, force_terminal=True, width=100), "SEGAN", minutes=5, names=("g_loss",))
    show(display)
    text = file.getvalue()
    assert "SEGAN  0:00 of 5:00  epoch 2  step 6" in text and "g_loss" in text and "d_loss" not in text
    assert display.history["g_loss"] == [10.0, 9.0]
    assert not display.live.is_started
    assert text.rstrip().endswith("SEGAN  0:00 of 5:00  epoch 2  step 6  g_loss 9")  # stays when the display is gone


def test_the_clock_can_start_after_the_first_step():
    display = terminal.LiveCurves(Console(file=io.StringIO()), "SEGAN", minutes=1, skip_first=True)
    display.on_train_begin()
    display.start -= 100.0  # the graph took this long
    display.on_train_batch_end(0, {"g_loss": 1.0})
    assert "0:00 of 1:00" in display.headline()
