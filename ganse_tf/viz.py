"""Pictures and players: spectrograms on one shared scale, masks, training curves, scores, network diagrams.

    fig = viz.triptych(noisy, enhanced, clean, sample_rate=16000)
    viz.show(fig)                       # in a notebook: with its alt text, for those who listen to pages
    viz.player(enhanced, 16000, "enhanced")

Every figure carries a sentence computed from its data (`alt_text`).  Colour maps are readable with colour-blindness and
in grey print, and no meaning rests on colour alone: lines also differ in dashes, bars in hatches, blocks in words.
matplotlib and IPython are imported when the first picture is made.
"""

import csv
import math
import os
from dataclasses import dataclass, field

import numpy as np

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")  # Okabe and Ito, without yellow
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo")
FULL_SCALE = 32767 / 32768  # the largest 16-bit sample; at or beyond it a sample counts as clipped
MAX_FRAMES = 2000  # columns of a spectrogram; longer sounds get a longer hop


def _pyplot():
    import matplotlib.pyplot as plt

    return plt


def _mono(wav, name="wav"):
    """float64 (n,) from mono or (n, channels); refuses what cannot be drawn."""
    wav = np.asarray(wav, np.float64)
    if wav.ndim == 2 and wav.shape[1] <= 8:  # (n, channels)
        wav = wav.mean(-1)
    if wav.ndim != 1 or not len(wav):
        raise ValueError(f"{name} has shape {wav.shape}; expected samples (n,) or (n, channels) of one sound.")
    if not np.isfinite(wav).all():
        raise ValueError(f"{name} has {int((~np.isfinite(wav)).sum())} samples that are NaN or infinite; "
                         "look for the step that made them before drawing.")  # fmt: skip
    return wav


def _describe(fig, sentence):
    """Add a sentence to the figure's alt text."""
    fig.ganse_alt_text = f"{getattr(fig, 'ganse_alt_text', '')} {sentence}".strip()


def alt_text(fig):
    """The sentences that describe a figure of this module, computed from the data it shows.

    Args:
        fig: a figure returned by this module (or the figure of an axes it returned, ``ax.figure``).

    Returns:
        str.

    Raises:
        ValueError: the figure was not made here.
    """
    text = getattr(fig, "ganse_alt_text", "")
    if not text:
        raise ValueError("this figure was not made by ganse_tf.viz, so there is no description to give; "
                         "write one sentence that says what it shows: viz.show(fig, \"...\").")  # fmt: skip
    return text


def show(fig, text=None):
    """Show a figure in a notebook with its alt text attached, print the text, and close the figure (no second copy).

    `text` describes a figure that was not made by this module.
    """
    text = text or alt_text(fig)
    try:
        from IPython.display import display
    except ImportError:
        print("Not in a notebook: use viz.save(fig, 'picture.png') to look at it.")
    else:
        display(fig, metadata={"image/png": {"alt": text}})
    print(f"Figure: {text}")
    _pyplot().close(fig)


def save(fig, path, dpi=120):
    """Write a figure as PNG or SVG with its alt text inside the file, close it, and return the alt text."""
    text = alt_text(fig)
    fig.savefig(path, dpi=dpi, metadata={"Description": text})
    _pyplot().close(fig)
    return text


def as_image(fig, dpi=100):
    """The figure as pixels for TensorBoard: uint8 NumPy array (height, width, 3); closes the figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    _pyplot().close(fig)
    return pixels


# ---- sound -----------------------------------------------------------------------------------------------------------


def _magnitude(wav, n_fft, hop):
    """Hann-windowed STFT magnitude (bins, frames), frame t centred on sample t * hop."""
    padded = np.pad(wav, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop]
    return np.abs(np.fft.rfft(frames * np.hanning(n_fft + 1)[:-1])).T


def _draw_spectrogram(ax, mag, reference, n, hop, sample_rate, vmin_db):
    level = 20 * np.log10(np.maximum(mag, 1e-12) / reference)
    bins, frames = mag.shape
    half_bin, khz = sample_rate / 4000 / (bins - 1), sample_rate / 2000
    extent = (-hop / 2 / sample_rate, (frames - 0.5) * hop / sample_rate, -half_bin, khz + half_bin)
    image = ax.imshow(level, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=vmin_db, vmax=0)
    ax.set(xlim=(0, n / sample_rate), ylim=(0, khz), ylabel="frequency (kHz)")
    return image


def spectrogram(wav, sample_rate=16000, ax=None, title="", vmin_db=-80.0, n_fft=512, hop_length=128, colorbar=True):
    """Draw the spectrogram of one sound: seconds to the right, kilohertz up, decibels below its loudest point.

    Args:
        wav: (n,) or (n, channels), any NumPy-like array.
        sample_rate: Hz.
        ax: matplotlib axes to draw into; None makes a figure.
        title: text above.
        vmin_db: level of the darkest colour; quieter parts look the same.
        n_fft, hop_length: STFT in samples (the hop grows for sounds longer than 2000 hops).
        colorbar: False leaves the scale out.

    Returns:
        The axes.  For several sounds that must be compared use `triptych`, which shares one scale.

    Example:
        >>> ax = spectrogram(np.random.default_rng(0).standard_normal(16000), title="white noise")
        >>> ax.get_ylabel()
        'frequency (kHz)'
    """
    wav = _mono(wav)
    if ax is None:
        ax = _pyplot().subplots(figsize=(8, 2.6), layout="constrained")[1]
    hop = max(hop_length, -(-len(wav) // MAX_FRAMES))
    mag = _magnitude(wav, n_fft, hop)
    image = _draw_spectrogram(ax, mag, max(mag.max(), 1e-12), len(wav), hop, sample_rate, vmin_db)
    ax.set(xlabel="time (s)", title=title)
    if colorbar:
        ax.figure.colorbar(image, ax=ax, label="dB re loudest")
    _describe(ax.figure, f"Spectrogram{f' of {title}' if title else ''}: {_sound_facts(wav, sample_rate)}.")
    return ax


def triptych(noisy, enhanced, clean=None, sample_rate=16000, titles=("noisy", "enhanced", "clean"), vmin_db=-80.0):
    """Noisy, enhanced and clean spectrograms one above the other: same seconds, same kilohertz, same decibels.

    0 dB is the loudest point of all panels, so a panel that is darker really is quieter.

    Args:
        noisy, enhanced, clean: (n,) or (n, channels); `clean` may be None (real recordings have none).
        sample_rate: Hz, of all.
        titles: one per panel.
        vmin_db: level of the darkest colour.

    Returns:
        matplotlib figure.

    Example:
        >>> tone = np.sin(np.arange(8000) / 4)
        >>> fig = triptych(tone + 0.1, 0.9 * tone, tone, sample_rate=8000)
        >>> len(fig.axes)  # three panels and the scale
        4
    """
    sounds = [_mono(wav, name) for wav, name in zip((noisy, enhanced, clean), titles) if wav is not None]
    longest = max(len(wav) for wav in sounds)
    hop = max(128, -(-longest // MAX_FRAMES))
    mags = [_magnitude(wav, 512, hop) for wav in sounds]
    reference = max(1e-12, *(mag.max() for mag in mags))
    fig, axes = _pyplot().subplots(len(sounds), 1, sharex=True, figsize=(8, 1.9 * len(sounds) + 0.4), layout="constrained")
    for ax, wav, mag, title in zip(axes, sounds, mags, titles):
        image = _draw_spectrogram(ax, mag, reference, len(wav), hop, sample_rate, vmin_db)
        ax.set_title(title, loc="left")
        _describe(fig, f"{title[:1].upper()}{title[1:]}: {_sound_facts(wav, sample_rate)}.")
    axes[-1].set(xlabel="time (s)", xlim=(0, longest / sample_rate))
    fig.colorbar(image, ax=axes, label="dB re loudest point of all panels", aspect=40)
    fig.ganse_alt_text = f"{len(sounds)} spectrograms on one decibel scale. {fig.ganse_alt_text}"
    if len(sounds) == 3:
        n = min(len(wav) for wav in sounds)
        before, after = (_decibels(np.mean((wav[:n] - sounds[2][:n]) ** 2)) for wav in sounds[:2])
        _describe(fig, f"The difference to {titles[2]} is {before:.1f} dBFS for {titles[0]} and {after:.1f} dBFS for "
                       f"{titles[1]}.")  # fmt: skip
    return fig


def mask(values, sample_rate=16000, hop_length=256, ax=None, title="mask", vmax=None, mel=False):
    """Draw a time-frequency mask: bright keeps a point of the spectrogram, dark removes it.

    Args:
        values: (frames, bins); a leading axis of size 1 is dropped.
        sample_rate: Hz.
        hop_length: samples per frame, for the seconds.
        ax: matplotlib axes; None makes a figure.
        vmax: value of the brightest colour; None means 1, or the largest value if that is above 1.
        mel: True when the bins are mel or gammatone bands instead of linear frequency.

    Returns:
        The axes.

    Raises:
        ValueError: not a matrix.

    Example:
        >>> mask(np.full([63, 257], 0.5)).get_xlabel()
        'time (s)'
    """
    values = np.asarray(values, np.float64)
    if values.ndim == 3 and len(values) == 1:
        values = values[0]
    if values.ndim != 2:
        raise ValueError(f"the mask has shape {values.shape}; expected (frames, bins) of one utterance, e.g. masks[0].")
    if ax is None:
        ax = _pyplot().subplots(figsize=(8, 2.6), layout="constrained")[1]
    frames, bins = values.shape
    vmax = max(1.0, float(np.nanmax(values))) if vmax is None else vmax
    top = bins if mel else sample_rate / 2000
    step, hop = top / max(bins - 1, 1) / 2, hop_length / sample_rate
    extent = (-hop / 2, (frames - 0.5) * hop, -step, top + step)
    image = ax.imshow(values.T, origin="lower", aspect="auto", extent=extent, cmap="cividis", vmin=0, vmax=vmax)
    ax.set(xlim=(0, max(frames - 1, 1) * hop), ylim=(0, top), xlabel="time (s)", title=title,
           ylabel="band" if mel else "frequency (kHz)")  # fmt: skip
    ax.figure.colorbar(image, ax=ax, label="gain")
    kept, removed = (100 * float(np.mean(part)) for part in (values > 0.5, values < 0.1))
    _describe(ax.figure, f"{title[:1].upper()}{title[1:]} of {frames} frames by {bins} bins: mean gain {np.mean(values):.2f}, "
                         f"{kept:.0f} % of the points above 0.5, {removed:.0f} % below 0.1.")  # fmt: skip
    return ax


def _decibels(power):
    return 10 * math.log10(power) if power > 0 else -math.inf


def _sound_facts(wav, sample_rate):
    """'2.50 s at 16000 Hz, level -23.1 dBFS RMS, peak -3.0 dBFS'."""
    facts = f"{len(wav) / sample_rate:.2f} s at {sample_rate} Hz"
    if not np.any(wav):
        return facts + ", digital silence"
    rms, peak = _decibels(np.mean(np.square(wav))), _decibels(np.max(np.square(wav)))
    return facts + f", level {rms:.1f} dBFS RMS, peak {peak:.1f} dBFS"


def player(wav, rate, label="sound"):
    """A player that does not lie about loudness, and a line that says what you hear.

    IPython scales every sound to full volume by default, which hides level errors; here nothing is scaled, and samples
    beyond full scale are cut off (as a sound card would) and counted.

    Args:
        wav: (n,) or (n, channels), full scale = 1.
        rate: Hz.
        label: name to print.

    Returns:
        ``IPython.display.Audio``, or None where IPython is missing.

    Example:
        >>> audio = player(0.5 * np.sin(np.arange(16000) / 10), 16000, "tone")
        tone: 1.00 s at 16000 Hz, level -9.0 dBFS RMS, peak -6.0 dBFS, 0 clipped samples.
    """
    mono = _mono(wav, label)
    wav = np.asarray(wav, np.float64)
    clipped = int(np.sum(np.abs(wav) >= FULL_SCALE))
    line = f"{label}: {_sound_facts(mono, rate)}, {clipped} clipped sample{'' if clipped == 1 else 's'}."
    try:
        from IPython.display import Audio
    except ImportError:
        print(line, "No player here (IPython is not installed); ganse_tf.audio.write(path, wav, rate) saves it.")
        return None
    print(line)
    return Audio(np.clip(wav, -1, 1).T, rate=rate, normalize=False)


# ---- training --------------------------------------------------------------------------------------------------------

OPINIONS = {  # what D's raw scores mean: (score of a D in doubt, explanation)
    "least_squares": (0.5, "D's labels: 1 for clean, 0 for enhanced. Healthy: both\nlines inside the grey zone; on the line "
                           "at 0.5 D cannot tell.\nResting on 1 and 0: D has won, G learns little from it."),
    "logits": (0.0, "Positive: D says clean; negative: enhanced. Healthy: both\nlines stay near 0, where D cannot tell. "
                    "Drifting apart\nfor good: D has won, G learns little from it."),
    "metric": (None, "D predicts a quality score; clean speech has 1. Healthy:\nd_real near 1, d_fake rising towards it. "
                     "Compare with\nthe real metric: D may be wrong about enhanced speech."),
}  # fmt: skip


def read_history(history):
    """Training logs as ``{name: array}``, from whatever holds them.

    Args:
        history: ``fit``'s History, its ``.history`` dict, a list of dicts (one per epoch), a pandas DataFrame, or the path
            of a ``CSVLogger`` file.

    Returns:
        dict of float64 arrays of one length; "epoch" counts from 1 when the source has no such column. A shorter column
        belongs to the last epochs: a term that came later (MetricGAN's G waits for D).

    Raises:
        ValueError: nothing to draw.

    Example:
        >>> read_history({"g_loss": [2.0, 1.0]})["epoch"].tolist()
        [1.0, 2.0]
    """
    if isinstance(history, (str, os.PathLike)):
        with open(history, newline="", encoding="utf-8") as file:
            history = list(csv.DictReader(file))
        for row in history:
            row["epoch"] = float(row["epoch"]) + 1 if row.get("epoch") else math.nan  # CSVLogger counts from 0
    history = getattr(history, "history", history)
    if isinstance(history, list):
        names = list(dict.fromkeys(name for row in history for name in row))
        history = {name: [row.get(name) for row in history] for name in names}
    columns = {name: np.array([_number(v) for v in history[name]]) for name in history}
    columns = {name: values for name, values in columns.items() if len(values)}
    if not set(columns) - {"epoch"}:
        raise ValueError("the history is empty; expected at least one epoch of logged values. Call fit first, or check "
                         "the path of the CSVLogger file.")  # fmt: skip
    length = max(map(len, columns.values()))
    columns.setdefault("epoch", np.arange(1.0, length + 1))
    return {name: np.concatenate([np.full(length - len(v), np.nan), v]) for name, v in columns.items()}


def _number(value):
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan  # CSVLogger writes NA for an epoch without validation


def _panes(names):
    """Group logged names into panes [(title, names)]: things of one unit share one axis."""
    opinion = [n for n in ("d_real", "d_fake", "val_d_real", "val_d_fake") if n in names]
    norms = [n for n in names if n.endswith("grad_norm")]
    taken = {"epoch", *opinion, *norms}
    losses = [n for n in names if n not in taken and n.removeprefix("val_").startswith(("d_", "g_", "loss"))]
    single = [n for n in names if n not in taken and n not in losses]
    panes = [("losses", losses), ("D's opinion", opinion), ("gradient norms", norms)] + [(n, [n]) for n in single]
    return [(title, group) for title, group in panes if group]


def curves(history, names=None, scores="least_squares", title=""):
    """Training curves: losses, D's opinion of clean and enhanced speech, gradient norms, validation metrics.

    Args:
        history: anything `read_history` takes.
        names: which logs to draw; None draws all.
        scores: what D's raw scores mean in this paper: "least_squares" (labels 1 and 0), "logits" (before a sigmoid) or
            "metric" (MetricGAN's predicted quality).  Decides how the pane of d_real and d_fake is explained.
        title: text above.

    Returns:
        matplotlib figure; `curves_table` gives the same numbers as text.

    Raises:
        ValueError: an unknown name or kind of score.

    Example:
        >>> fig = curves({"d_real": [0.5, 0.9], "d_fake": [0.5, 0.2], "g_loss": [30.0, 12.0]})
        >>> [ax.get_title() for ax in fig.axes]
        ['losses', "D's opinion"]
    """
    columns = read_history(history)
    if scores not in OPINIONS:
        raise ValueError(f"scores={scores!r}; expected one of {', '.join(OPINIONS)}.")
    names = [n for n in columns if n != "epoch"] if names is None else list(names)
    missing = [n for n in names if n not in columns]
    if missing:
        raise ValueError(f"the history has no {', '.join(missing)}; it has {', '.join(columns)}.")
    panes = _panes(names)
    wide = min(3, len(panes))
    rows = -(-len(panes) // wide)
    fig, axes = _pyplot().subplots(rows, wide, figsize=(4.4 * wide, 3.4 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(panes) :]:
        ax.remove()
    fig.suptitle(title)
    _describe(fig, f"Training curves{f' of {title}' if title else ''} over {len(columns['epoch'])} epochs.")
    for ax, (pane, group) in zip(axes.flat, panes):
        _draw_pane(ax, pane, group, columns, scores)
        _describe(fig, " ".join(_curve_facts(name, columns[name]) for name in group))
    return fig


def _draw_pane(ax, pane, group, columns, scores):
    for i, name in enumerate(group):
        values = columns[name]
        dots = "o" if np.isfinite(values).sum() < 15 else None
        ax.plot(columns["epoch"], values, linestyle=DASHES[i % len(DASHES)], color=COLOURS[i % len(COLOURS)],
                marker=dots, markersize=3, label=name)  # fmt: skip
    ax.set(title=pane, xlabel="epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)
    finite = np.concatenate([columns[n][np.isfinite(columns[n])] for n in group])
    if pane != "D's opinion" and len(group) > 1 and len(finite) and 0 < finite.min() * 50 < finite.max():
        ax.set_yscale("log")  # a pane may hold 100 * L1 next to a least-squares loss
    if pane == "D's opinion":
        doubt, explanation = OPINIONS[scores]
        if scores == "least_squares":
            ax.axhspan(0, 1, color="0.92", zorder=0)
        if doubt is not None:
            ax.axhline(doubt, color="0.4", linewidth=0.8, zorder=1)
        ax.set_xlabel("epoch\n" + explanation, fontsize=8)
    if group != [pane]:
        ax.legend(handlelength=3, fontsize=8)
    ax.grid(alpha=0.3)


def _curve_facts(name, values):
    good = values[np.isfinite(values)]
    if not len(good):
        return f"{name} was never a finite number."
    bad = f" ({len(values) - len(good)} missing)" if len(good) < len(values) else ""
    return f"{name} goes from {good[0]:.3g} to {good[-1]:.3g}, between {good.min():.3g} and {good.max():.3g}{bad}."


def curves_table(history, names=None, rows=6):
    """The numbers of `curves` as a Markdown table of at most `rows` evenly spaced epochs, first and last included.

    Example:
        >>> print(curves_table({"g_loss": [3.0, 2.0, 1.0]}, rows=2))
        | epoch | g_loss |
        |---:|---:|
        | 1 | 3 |
        | 3 | 1 |
    """
    columns = read_history(history)
    names = [n for n in columns if n != "epoch"] if names is None else list(names)
    count = len(columns["epoch"])
    picked = np.unique(np.linspace(0, count - 1, min(rows, count)).round().astype(int))
    lines = ["| epoch | " + " | ".join(names) + " |", "|---:" * (len(names) + 1) + "|"]
    lines += [f"| {columns['epoch'][i]:g} | " + " | ".join(f"{columns[n][i]:.4g}" for n in names) + " |" for i in picked]
    return "\n".join(lines)


def bar_scores(table, metrics=None, title=""):
    """Bars of mean scores, one pane per metric (their units differ), the value written on every bar.

    Args:
        table: ``{system: scores}`` with the noisy input first; scores are ``{metric: mean}`` or a
            ``metrics.ScoreTable``.  A pandas DataFrame with one row per system works too.
        metrics: which metrics, in order; None takes those of the first system.
        title: text above.

    Returns:
        matplotlib figure.

    Example:
        >>> fig = bar_scores({"noisy": {"stoi": 0.90}, "SEGAN": {"stoi": 0.92}})
        >>> [float(bar.get_height()) for bar in fig.axes[0].patches]
        [0.9, 0.92]
    """
    if hasattr(table, "to_dict"):
        table = table.to_dict(orient="index")
    table = {name: scores.means() if hasattr(scores, "means") else dict(scores) for name, scores in table.items()}
    if not table:
        raise ValueError("the table is empty; expected {system: {metric: value}}, the noisy input first.")
    metrics = list(next(iter(table.values()))) if metrics is None else list(metrics)
    wide = min(4, len(metrics))
    rows = -(-len(metrics) // wide)
    fig, axes = _pyplot().subplots(rows, wide, figsize=(max(2.6 * wide, 4), 2.8 * rows), layout="constrained", squeeze=False)
    for ax in axes.flat[len(metrics) :]:
        ax.remove()
    fig.suptitle(title)
    _describe(fig, f"Mean scores{f' of {title}' if title else ''}.")
    for ax, metric in zip(axes.flat, metrics):
        values = [float(scores.get(metric, math.nan)) for scores in table.values()]
        bars = ax.bar(range(len(table)), np.nan_to_num(values), color=[_tint(i) for i in range(len(table))],
                      edgecolor="black", hatch=[HATCHES[i % len(HATCHES)] for i in range(len(table))])  # fmt: skip
        ax.bar_label(bars, [f"{v:.3g}" if np.isfinite(v) else "n/a" for v in values], padding=2, fontsize=8)
        ax.set_xticks(range(len(table)), list(table), rotation=30, ha="right", fontsize=8)
        ax.set_title(metric)
        ax.margins(y=0.15)
        listed = ", ".join(f"{n} {v:.3g}" if np.isfinite(v) else f"{n} n/a" for n, v in zip(table, values))
        _describe(fig, f"{metric}: {listed}.")
    return fig


def _tint(i):
    return ("#D9D9D9", "#F6D9A0", "#A8CDE8", "#A6DCC9", "#F2C3A4", "#CDE6F5", "#EBCBDD")[i % 7]


# ---- networks --------------------------------------------------------------------------------------------------------

COLOUR_OF = {  # word in a layer's class name -> colour of its block (the name is written there as well)
    "input": "#FFFFFF", "transpose": "#F6D9A0", "conv": "#A8CDE8", "dense": "#A6DCC9", "lstm": "#EBCBDD", "gru": "#EBCBDD",
    "rnn": "#EBCBDD",
}  # fmt: skip
COMPANIONS = ("ReLU", "Norm", "Normalization", "Activation", "Dropout", "Softmax", "Noise", "Scale")  # name endings
MERGES = ("Concatenate", "Add", "Multiply", "Subtract", "Average", "Maximum")
SHORT = (("SpectralNorm", "SN "), ("Concatenate", "concat"), ("VirtualBatchNorm", "VBN"), ("BatchNormalization", "BN"),
         ("Normalization", "Norm"), ("LeakyReLU", "LReLU"), ("Fast", ""))  # fmt: skip
BLOCK, STEP, ARCS, TITLE = 0.5, 0.66, 0.9, 0.35  # inches: block width, block to block, most room for arcs, for the title
LETTER = 0.053  # inches per letter of the 6.5 point text


@dataclass
class Block:
    """One block of a diagram: a layer with weights and the activations, norms and reshapes that follow it."""

    kind: str  # class name of the layer
    words: list  # what is done, in order
    shape: tuple = ()  # of the output, without the batch axis
    params: int = 0  # trainable
    sources: list = field(default_factory=list)  # indices of the blocks it reads

    @property
    def lines(self):
        """The text of the block: layer, companions, output shape, weights."""
        shape = " x ".join("t" if s is None else str(s) for s in self.shape) or "one number"
        companions = " + ".join(dict.fromkeys(self.words[1:]))
        weights = f"{_short(self.params)} weights" if self.params else ""
        return [line for line in (self.words[0], companions, shape, weights) if line]


def _short(count):
    for size, unit in ((1e6, " M"), (1e3, " k")):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return str(count)


def _words(layer):
    """'Conv1D 31 stride 2 relu': class, kernel, stride, dilation and activation of a layer."""
    name = type(layer).__name__
    activation = getattr(getattr(layer, "activation", None), "__name__", "linear")
    if name == "InputLayer":
        return f"Input {layer.name}"
    if name == "Activation":
        return activation
    for long, short in SHORT:
        name = name.replace(long, short)
    for attribute, word in (("kernel_size", ""), ("strides", "stride "), ("dilation_rate", "dilation ")):
        numbers = np.ravel(getattr(layer, attribute, None) or ()).tolist()
        if numbers and (attribute == "kernel_size" or max(numbers) > 1):
            name += f" {word}{'x'.join(map(str, numbers))}"
    return name if activation in ("linear", "leaky_relu") or "LSTM" in name else f"{name} {activation}"


def blocks(network):
    """The layers of a built Keras network as a list of `Block`, in the order of the data flow.

    A layer with weights opens a block; activations, norms, dropouts and reshapes that follow belong to it.  A join of
    several blocks belongs to the layer that reads it: "concat, Conv1D 31 stride 2".

    Args:
        network: functional or sequential ``keras.Model``, built; a subclassed one is listed as a plain chain.

    Returns:
        list of Block; the sum of ``params`` is the number of trainable weights.

    Example:
        >>> import keras
        >>> net = keras.Sequential([keras.Input([4]), keras.layers.Dense(2), keras.layers.LeakyReLU()])
        >>> [(block.words, block.shape, block.params) for block in blocks(net)][1]
        (['Dense', 'LReLU'], (2,), 10)
    """
    operations, edges = _graph(network)
    made, place, counted = [], {}, set()
    for key, (operation, shape) in operations.items():
        name, words = type(operation).__name__, _words(operation)
        words = words.lower() if name in MERGES else words
        weights = [] if id(operation) in counted else getattr(operation, "trainable_weights", [])
        counted.add(id(operation))  # a layer used twice has its weights counted once
        params = sum(math.prod(w.shape) for w in weights)
        sources = sorted({place[parent] for parent in edges[key]})
        companion = name.endswith(COMPANIONS)
        if len(sources) == 1 and (companion or not getattr(operation, "weights", [])):
            home = sources[0]
            made[home].shape = made[home].shape if name == "Flatten" else shape
            made[home].params += params
            if companion or (name in ("Add", "Multiply") and len(edges[key]) > 1):  # a residual or a gate within the block
                made[home].words.append(words)
        else:
            home = len(made)
            made.append(Block(name, [words], shape, params, sources))
        place[key] = home
    return _fold_joins(made)


def _fold_joins(made):
    """Move every join that only one block reads into that block."""
    kept = []
    for i, block in enumerate(made):
        readers = [other for other in made[i + 1 :] if i in other.sources]
        if block.kind in MERGES and len(block.words) == 1 and len(readers) == 1:
            reader = readers[0]
            reader.words[0] = f"{block.words[0]}, {reader.words[0]}"
            reader.sources = sorted({*reader.sources, *block.sources} - {i})
        else:
            kept.append(i)
    for i in kept:
        made[i].sources = [kept.index(source) for source in made[i].sources]
    return [made[i] for i in kept]


def _graph(network):
    """{key: (operation, output shape)} in data-flow order and {key: [keys it reads]} of a Keras network."""
    operations, edges = {}, {}

    def visit(tensor):
        operation, index, _ = tensor._keras_history
        key = (id(operation), index)
        if key not in operations:
            node = operation._inbound_nodes[index]
            edges[key] = [visit(parent) for parent in node.input_tensors]
            operations[key] = (operation, tuple(node.output_tensors[0].shape[1:]))
        return key

    try:
        tensors = [*reversed(network.inputs), *network.outputs]  # the main input, named first, stands next to its reader
    except (AttributeError, ValueError, TypeError):  # a subclassed model keeps no graph
        previous = []
        for layer in network.layers:
            operations[id(layer)], edges[id(layer)] = (layer, ()), previous
            previous = [id(layer)]
    else:
        for tensor in tensors:
            visit(tensor)
    return operations, edges


def architecture(model, title=""):
    """Block diagram of the real networks of a model: layers left to right, output shapes, weights, skip connections.

    Drawn from the built Keras graph, so it cannot disagree with the code.  Shapes are (time, channels) or (time,
    frequency, channels), t = any length; lines above the blocks are connections that jump over some of them.

    Args:
        model: an `EnhancementGAN` (its generator and discriminator) or one built ``keras.Model``.
        title: text above; empty means the model's class name.

    Returns:
        matplotlib figure.

    Example:
        >>> import keras
        >>> net = keras.Sequential([keras.Input([257]), keras.layers.Dense(8)], name="net")
        >>> "2,064 trainable weights" in alt_text(architecture(net))
        True
    """
    names = [n for n in ("generator", "discriminator") if getattr(model, n, None) is not None]
    networks = {n: getattr(model, n) for n in names} or {getattr(model, "name", "network"): model}
    title = title or type(model).__name__
    drawn = []
    for name, network in networks.items():
        parts = blocks(network)
        tall = max(1.2, LETTER * max(len(line) for part in parts for line in part.lines) + 0.15)
        jumps = [i - source for i, part in enumerate(parts) for source in part.sources if i - source > 1]
        room = min(ARCS, 0.1 + 0.1 * max(jumps, default=0))
        drawn.append((name, parts, tall, room, len(jumps)))
    width = max(4.5, STEP * max(len(parts) for _, parts, *_ in drawn) + 0.2)
    height = sum(TITLE + room + tall + 0.15 for _, _, tall, room, _ in drawn)
    fig = _pyplot().figure(figsize=(width, height))
    ax = fig.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))  # one unit is one inch
    ax.axis("off")
    _describe(fig, f"Block diagram of {title}.")
    for name, parts, tall, room, jumps in drawn:
        weights = sum(part.params for part in parts)
        heading = f"{title if len(drawn) == 1 else f'{title}, {name}'}: {weights:,} trainable weights"
        ax.text(0.1, height - TITLE / 2, heading, fontsize=11, va="center")
        height -= TITLE + room + tall + 0.15
        _draw_blocks(ax, parts, height + 0.1, tall, room)
        ends = " to ".join(", ".join(part.lines) for part in (parts[0], parts[-1]))
        _describe(fig, f"{name.capitalize()}: {len(parts)} blocks, {weights:,} trainable weights, {jumps} connections that "
                       f"jump over blocks; from {ends}.")  # fmt: skip
    return fig


def _draw_blocks(ax, parts, bottom, tall, room):
    """One row of blocks with their arrows; all lengths in inches."""
    from matplotlib.patches import Rectangle

    top, middle = bottom + tall, bottom + tall / 2
    longest = max((i - source for i, part in enumerate(parts) for source in part.sources), default=1)
    for i, part in enumerate(parts):
        left = 0.1 + STEP * i
        colour = next((c for word, c in COLOUR_OF.items() if word in part.kind.lower()), "#E6E6E6")
        ax.add_patch(Rectangle((left, bottom), BLOCK, tall, facecolor=colour, edgecolor="black", linewidth=0.8))
        ax.text(left + BLOCK / 2, middle, "\n".join(part.lines), rotation=90, ha="center", va="center", fontsize=6.5,
                linespacing=1.2, multialignment="center")  # fmt: skip
        for source in part.sources:
            if source == i - 1:
                ax.annotate("", (left, middle), (left - STEP + BLOCK, middle), arrowprops={
                    "arrowstyle": "-|>", "mutation_scale": 8, "shrinkA": 0, "shrinkB": 0, "color": "black"})  # fmt: skip
            else:  # out at the right of the source's top edge, in at the left of the target's, higher when longer
                start, end = 0.1 + STEP * source + 0.7 * BLOCK, left + 0.3 * BLOCK
                level = top + room * (0.2 + 0.8 * (i - source) / longest)
                ax.plot([start, start, end, end], [top, level, level, top], color="0.25", linewidth=0.9)
                ax.plot([end], [top + 0.03], marker="v", color="0.25", markersize=4)
