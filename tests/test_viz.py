"""viz.py: what the pictures show is checked on their data, not on their pixels."""

import csv
import doctest
import subprocess
import sys
import types

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from ganse_tf import viz

RATE = 16000


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def tone(freq, seconds=1.0, amplitude=0.5):
    return amplitude * np.sin(2 * np.pi * freq * np.arange(int(seconds * RATE)) / RATE)


def panels(fig):
    """Axes with an image, without the colour bar."""
    return [ax for ax in fig.axes if ax.images]


def test_docstring_examples_run():
    result = doctest.testmod(viz)
    assert result.attempted >= 15
    assert result.failed == 0


def test_import_brings_in_neither_matplotlib_nor_tensorflow():
    code = "import sys, ganse_tf.viz; print([m for m in ('matplotlib', 'tensorflow', 'IPython') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


# ---- spectrograms and masks


def test_a_tone_is_drawn_at_its_frequency_and_level():
    ax = viz.spectrogram(tone(2000), RATE, title="tone")
    image = ax.images[0]
    level = image.get_array()
    left, right, bottom, top = image.get_extent()
    bins, frames = level.shape
    khz = bottom + (np.argmax(level[:, frames // 2]) + 0.5) * (top - bottom) / bins
    assert khz == pytest.approx(2.0, abs=0.016)
    assert level.max() == pytest.approx(0, abs=1e-6)
    assert image.get_clim() == (-80, 0)
    assert ax.get_xlim() == (0, 1)
    assert ax.get_ylim() == (0, 8)
    assert (left + right) / 2 == pytest.approx(0.5, abs=0.01)
    assert viz.alt_text(ax.figure) == (
        "Spectrogram of tone: 1.00 s at 16000 Hz, level -9.0 dBFS RMS, peak -6.0 dBFS."
    )  # fmt: skip


def test_time_runs_to_the_right():
    wav = np.concatenate([np.zeros(RATE), tone(1000, 1.0)])
    image = viz.spectrogram(wav, RATE).images[0]
    level, (left, right, _, _) = image.get_array(), image.get_extent()
    times = left + (np.arange(level.shape[1]) + 0.5) * (right - left) / level.shape[1]
    loud = times[level.max(0) > -20]
    assert loud.min() == pytest.approx(1.0, abs=0.03)


def test_triptych_shares_one_scale_and_one_time_axis():
    clean = tone(1000)
    fig = viz.triptych(clean + tone(3000), 0.5 * clean, clean[:12000], RATE)
    axes = panels(fig)
    assert [ax.get_title(loc="left") for ax in axes] == ["noisy", "enhanced", "clean"]
    assert {ax.images[0].get_clim() for ax in axes} == {(-80, 0)}
    assert {ax.get_xlim() for ax in axes} == {(0, 1)}
    peaks = [float(ax.images[0].get_array()[:, 40].max()) for ax in axes]
    assert peaks[0] == pytest.approx(0, abs=0.3)
    assert peaks[1] - peaks[2] == pytest.approx(-6.02, abs=0.01)
    assert [ax.get_xlabel() for ax in axes] == ["", "", "time (s)"]
    text = viz.alt_text(fig)
    assert text.startswith("3 spectrograms on one decibel scale. Noisy: 1.00 s at 16000 Hz")
    assert "-9.0 dBFS for noisy and -15.1 dBFS for enhanced" in text  # a tone of 0.5, and half of it


def test_triptych_without_a_clean_reference_and_with_stereo():
    fig = viz.triptych(np.stack([tone(500)] * 2, -1), tone(500), None, RATE)
    assert len(panels(fig)) == 2
    assert "difference" not in viz.alt_text(fig)


def test_long_and_short_and_silent_sounds_are_drawn():
    assert viz.spectrogram(np.zeros(20 * 60 * RATE), RATE).images[0].get_array().shape[1] <= 2001
    assert viz.spectrogram([0.1], RATE).images[0].get_array().shape == (257, 1)
    ax = viz.spectrogram(np.zeros(1000), RATE)
    assert np.isfinite(ax.images[0].get_array()).all()
    assert "digital silence" in viz.alt_text(ax.figure)


@pytest.mark.parametrize("wav, message", [
    (np.zeros([2, 3, 4]), r"noisy has shape \(2, 3, 4\); expected samples"),
    (np.zeros(0), r"noisy has shape \(0,\)"),
    ([0.0, np.nan, np.inf], "noisy has 2 samples that are NaN or infinite"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused(wav, message):
    with pytest.raises(ValueError, match=message):
        viz.triptych(wav, np.zeros(10), None, RATE)


def test_mask_orientation_scale_and_description():
    values = np.zeros([50, 257])
    values[10, 200] = 1.0
    ax = viz.mask(values, RATE, 256)
    image = ax.images[0]
    drawn = image.get_array()
    assert drawn.shape == (257, 50)
    assert drawn[200, 10] == 1
    assert image.get_clim() == (0, 1)
    assert ax.get_ylim() == (0, 8)
    assert ax.get_xlim() == pytest.approx((0, 49 * 256 / RATE))
    text = "Mask of 50 frames by 257 bins: mean gain 0.00, 0 % of the points above 0.5, 100 % below 0.1."
    assert viz.alt_text(ax.figure) == text
    assert viz.mask(3 * values[None]).images[0].get_clim() == (0, 3)
    assert viz.mask(values[:, :64], mel=True).get_ylabel() == "band"
    with pytest.raises(ValueError, match=r"the mask has shape \(2, 50, 257\); expected \(frames, bins\)"):
        viz.mask(np.zeros([2, 50, 257]))


# ---- figures as objects


def test_alt_text_is_only_given_for_our_figures():
    with pytest.raises(ValueError, match="not made by ganse_tf.viz"):
        viz.alt_text(plt.figure())


def test_save_writes_the_description_into_the_file(tmp_path):
    from PIL import Image

    fig = viz.triptych(tone(500), tone(600), None, RATE)
    text = viz.save(fig, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["Description"] == text
    assert not plt.fignum_exists(fig.number)
    text = viz.save(viz.triptych(tone(500), tone(600), None, RATE), tmp_path / "a.svg")
    assert text in (tmp_path / "a.svg").read_text()


def test_as_image_gives_pixels_and_closes_the_figure():
    fig = viz.triptych(tone(500), tone(600), tone(500), RATE)
    size = fig.get_size_inches()
    pixels = viz.as_image(fig, dpi=50)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (round(size[1] * 50), round(size[0] * 50), 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20  # not blank
    assert not plt.fignum_exists(fig.number)


def test_show_attaches_the_alt_text(monkeypatch, capsys):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda fig, metadata: shown.append(metadata))
    fig = viz.triptych(tone(500), tone(600), None, RATE)
    viz.show(fig)
    assert shown == [{"image/png": {"alt": viz.alt_text(fig)}}]
    assert capsys.readouterr().out == f"Figure: {viz.alt_text(fig)}\n"
    assert not plt.fignum_exists(fig.number)
    viz.show(plt.figure(), "An empty figure.")
    assert shown[1:] == [{"image/png": {"alt": "An empty figure."}}]
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    viz.show(viz.triptych(tone(500), tone(600), None, RATE))
    assert "Not in a notebook: use viz.save" in capsys.readouterr().out


# ---- player


def test_player_keeps_the_level_and_counts_clipped_samples(capsys):
    wav = np.array([0.5, -0.25, 1.5, -1.0, 0.0])
    audio = viz.player(wav, RATE, "loud")
    played = np.frombuffer(audio.data[44:], "<i2") / 32767
    np.testing.assert_allclose(played, [0.5, -0.25, 1, -1, 0], atol=1e-4)
    assert capsys.readouterr().out == "loud: 0.00 s at 16000 Hz, level -1.5 dBFS RMS, peak 3.5 dBFS, 2 clipped samples.\n"


def test_player_takes_stereo_and_works_without_ipython(monkeypatch, capsys):
    stereo = np.stack([np.full(100, 0.1), np.full(100, 0.2)], -1)
    played = np.frombuffer(viz.player(stereo, RATE).data[44:], "<i2").reshape(-1, 2)
    np.testing.assert_allclose(played[0] / 32767, [0.1, 0.2], atol=1e-4)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    capsys.readouterr()
    assert viz.player(np.zeros(100), RATE, "nothing") is None
    out = capsys.readouterr().out
    assert out.startswith("nothing: 0.01 s at 16000 Hz, digital silence, 0 clipped samples. No player here")


# ---- curves

LOG = {"d_loss": [0.5, 0.4, 0.3], "g_loss": [30.0, 20.0, 10.0], "d_real": [0.5, 0.7, 0.8], "d_fake": [0.5, 0.4, 0.3],
       "d_grad_norm": [1.0, 1.1, 1.2], "g_grad_norm": [2.0, 2.1, 2.2], "val_pesq_wb": [1.5, np.nan, 2.0]}  # fmt: skip


def test_history_is_read_from_everything_that_holds_it(tmp_path):
    import pandas

    path = tmp_path / "log.csv"
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["epoch", *LOG])
        rows.writerows([i, *("NA" if np.isnan(LOG[n][i]) else LOG[n][i] for n in LOG)] for i in range(3))
    rows = [{"epoch": i + 1, **{n: LOG[n][i] for n in LOG if not np.isnan(LOG[n][i])}} for i in range(3)]
    for source in (LOG, types.SimpleNamespace(history=LOG), path, str(path), rows, pandas.DataFrame(LOG)):
        columns = viz.read_history(source)
        assert columns["epoch"].tolist() == [1, 2, 3]
        for name in LOG:
            np.testing.assert_array_equal(columns[name], LOG[name])
    with pytest.raises(ValueError, match="the history is empty; expected at least one epoch"):
        viz.read_history({})


def test_curves_show_the_numbers_in_their_panes():
    fig = viz.curves(LOG, title="SEGAN")
    assert [ax.get_title() for ax in fig.axes] == ["losses", "D's opinion", "gradient norms", "val_pesq_wb"]
    for ax in fig.axes:
        lines = [line for line in ax.lines if line.get_label() in LOG]
        assert lines
        for line in lines:
            np.testing.assert_array_equal(line.get_ydata(), LOG[line.get_label()])
            np.testing.assert_array_equal(line.get_xdata(), [1, 2, 3])
        assert len({line.get_linestyle() for line in lines}) == len(lines)  # not told apart by colour alone
    assert fig.axes[0].get_yscale() == "log"  # 0.3 next to 30
    assert fig.axes[2].get_yscale() == "linear"
    text = viz.alt_text(fig)
    assert "Training curves of SEGAN over 3 epochs. d_loss goes from 0.5 to 0.3, between 0.3 and 0.5." in text
    assert "val_pesq_wb goes from 1.5 to 2, between 1.5 and 2 (1 missing)." in text


@pytest.mark.parametrize("scores, doubt, words", [
    ("least_squares", 0.5, "inside the grey zone"), ("logits", 0.0, "stay near 0"), ("metric", None, "predicts a quality"),
])  # fmt: skip
def test_the_pane_of_d_says_what_is_healthy(scores, doubt, words):
    ax = viz.curves(LOG, ["d_real", "d_fake"], scores=scores).axes[0]
    assert words in ax.get_xlabel()
    levels = [line.get_ydata()[0] for line in ax.lines if line.get_label() not in LOG]
    assert levels == ([] if doubt is None else [doubt])
    assert len(ax.patches) == (scores == "least_squares")  # the zone between the labels


def test_curves_refuse_unknown_names():
    with pytest.raises(ValueError, match="the history has no g_l1; it has d_loss, g_loss"):
        viz.curves(LOG, ["g_l1"])
    with pytest.raises(ValueError, match="scores='hinge'; expected one of least_squares, logits, metric"):
        viz.curves(LOG, scores="hinge")


def test_a_run_of_nan_is_described_not_hidden():
    assert "g_loss was never a finite number." in viz.alt_text(viz.curves({"g_loss": [np.nan, np.inf]}))


def test_curves_table_holds_first_and_last_epoch():
    lines = viz.curves_table({"g_loss": list(range(100))}, rows=4).splitlines()
    assert lines[2:] == ["| 1 | 0 |", "| 34 | 33 |", "| 67 | 66 |", "| 100 | 99 |"]


# ---- bars


def test_bars_show_the_means_and_say_when_there_is_none():
    import pandas

    noisy, segan = {"pesq_wb": 1.8, "si_sdr": 6.4}, {"pesq_wb": 2.1, "si_sdr": float("nan")}
    as_table = types.SimpleNamespace(means=lambda: segan)
    frame = pandas.DataFrame([noisy, segan], index=["noisy", "SEGAN"])
    for table in ({"noisy": noisy, "SEGAN": segan}, {"noisy": noisy, "SEGAN": as_table}, frame):
        fig = viz.bar_scores(table)
        assert [ax.get_title() for ax in fig.axes] == ["pesq_wb", "si_sdr"]
        assert [bar.get_height() for bar in fig.axes[0].patches] == [1.8, 2.1]
        assert [t.get_text() for t in fig.axes[1].texts] == ["6.4", "n/a"]
        assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["noisy", "SEGAN"]
        assert len({bar.get_hatch() for bar in fig.axes[0].patches}) == 2
        assert viz.alt_text(fig) == "Mean scores. pesq_wb: noisy 1.8, SEGAN 2.1. si_sdr: noisy 6.4, SEGAN n/a."
    with pytest.raises(ValueError, match="the table is empty"):
        viz.bar_scores({})


# ---- network diagrams


@pytest.fixture(scope="module")
def unet():
    import keras

    layers = keras.layers
    noisy, z = keras.Input([64, 1], name="noisy"), keras.Input([16, 8], name="z")
    e1 = layers.PReLU(shared_axes=[1])(layers.Conv1D(4, 5, strides=2, padding="same")(noisy))
    e2 = layers.LeakyReLU()(layers.BatchNormalization()(layers.Conv1D(8, 5, strides=2, padding="same")(e1)))
    x = layers.Concatenate()([z, e2])
    x = layers.ReLU()(layers.Conv1DTranspose(4, 5, strides=2, padding="same")(x))
    x = layers.Concatenate()([x, e1])
    x = layers.Conv1DTranspose(1, 5, strides=2, padding="same", activation="tanh")(x)
    return keras.Model([noisy, z], x, name="unet")


def test_blocks_follow_the_graph(unet):
    parts = viz.blocks(unet)
    assert [part.lines for part in parts] == [
        ["Input z", "16 x 8"],
        ["Input noisy", "64 x 1"],
        ["Conv1D 5 stride 2", "PReLU", "32 x 4", "28 weights"],
        ["Conv1D 5 stride 2", "BN + LReLU", "16 x 8", "184 weights"],
        ["concat, Conv1DTranspose 5 stride 2", "ReLU", "32 x 4", "324 weights"],
        ["concat, Conv1DTranspose 5 stride 2 tanh", "64 x 1", "41 weights"],
    ]
    assert [part.sources for part in parts] == [[], [], [1], [2], [0, 3], [2, 4]]
    assert sum(part.params for part in parts) == sum(int(np.prod(w.shape)) for w in unet.trainable_weights)


def test_shared_layers_residuals_and_free_time_axes():
    import keras

    layers = keras.layers
    x = keras.Input([None, 6], name="x")
    dense = layers.Dense(6)
    y = layers.Add()([x, layers.Activation("relu")(dense(dense(x)))])
    net = keras.Model(x, layers.Flatten()(layers.GlobalAveragePooling1D()(y)))
    parts = viz.blocks(net)
    assert [part.params for part in parts] == [0, 42, 0, 0]  # counted once
    assert parts[1].lines[1] == "t x 6"
    assert parts[2].words == ["Dense", "relu"]
    assert parts[3].words == ["add"]
    assert parts[3].sources == [0, 2]
    assert parts[3].shape == (6,)


def test_blocks_of_a_subclassed_model_are_a_chain():
    import keras

    class Plain(keras.Model):
        def __init__(self):
            super().__init__()
            self.first, self.second = keras.layers.Dense(3), keras.layers.Dense(2)

        def call(self, x):
            return self.second(self.first(x))

    net = Plain()
    net(np.zeros([1, 4], np.float32))
    parts = viz.blocks(net)
    assert [(part.params, part.sources) for part in parts] == [(15, []), (8, [0])]


def test_architecture_draws_both_networks_and_every_label_fits(unet):
    import keras

    judge = keras.Sequential([keras.Input([64, 1]), keras.layers.Conv1D(1, 3), keras.layers.Flatten(), keras.layers.Dense(1)])
    fig = viz.architecture(types.SimpleNamespace(generator=unet, discriminator=judge), title="Tiny")
    text = viz.alt_text(fig)
    assert text.startswith("Block diagram of Tiny. Generator: 6 blocks, 577 trainable weights, 2 connections that jump over")
    assert "Discriminator: 3 blocks, 67 trainable weights, 0 connections that jump over blocks; from" in text
    ax = fig.axes[0]
    headings = [t.get_text() for t in ax.texts if "trainable" in t.get_text()]
    assert headings == ["Tiny, generator: 577 trainable weights", "Tiny, discriminator: 67 trainable weights"]
    fig.canvas.draw()
    boxes = [patch.get_window_extent() for patch in ax.patches if isinstance(patch, matplotlib.patches.Rectangle)]
    labels = [t for t in ax.texts if t.get_text() and "trainable" not in t.get_text()]
    assert len(boxes) == len(labels) == 9
    for box, label in zip(boxes, labels):
        extent = label.get_window_extent()
        assert box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0 and extent.y1 <= box.y1
        assert fig.bbox.x0 <= box.x0 and box.x1 <= fig.bbox.x1
    lines = [line for line in ax.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 2


def test_a_term_that_came_later_is_drawn_at_the_last_epochs():
    columns = viz.read_history({"d_loss": [3.0, 2.0, 1.0], "g_adv": [5.0, 4.0]})
    np.testing.assert_array_equal(columns["g_adv"], [np.nan, 5.0, 4.0])
