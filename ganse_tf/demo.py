"""`python -m ganse_tf demo`: enhance noisy speech, train a tiny SEGAN for a minute, score all, write a page to listen to.

Everything comes with the package: synthetic speech, noise made by code, released weights. The folder gets

    index.html     one page that holds everything: players, spectrograms, curves, scores; needs no network
    *.wav          what is heard on the page
    figures/*.png  pictures of the page, with axes
    scores.csv     one line per system and utterance
"""

import base64
import csv
import html
import io
import platform
import re
import string
import time
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich import box
from rich.console import Console
from rich.table import Table

from ganse_tf import audio, callbacks, catalogue, data, optimizers, presets, scoring, setup_check, signal, terminal, viz
from ganse_tf.downstream import classical
from ganse_tf.models.segan import SEGAN
from ganse_tf.version import __version__

SNRS_DB = (0, 5, 10)  # of the test pairs
SHOWN_KINDS = ("pink", "babble", "engine")  # noises of the examples to listen to
SHORT_SCORES = {"pesq_wb": "PESQ {:.2f}", "stoi": "STOI {:.2f}", "si_sdr": "SI-SDR {:.1f} dB"}  # beside a player
TRAIN_PAIRS, BATCH_SIZE, STEPS_PER_EPOCH = 160, 4, 10
LEARNING_RATE = 1e-3  # the paper's 2e-4 is for days of training, not for a minute
FLOOR_DB = -80.0  # darkest colour of the spectrograms
N_FFT, HOP = 512, 128  # of the spectrograms
FIGURE_DPI = 100
PAGE_BYTES = 8_000_000  # more examples than fit are left out
CURVES = ("g_l1", "g_adv", "d_loss", "d_real", "d_fake")
TABLE_ROWS = 8  # of the table under the curves

NOISY, CLEAN, WIENER = "noisy", "clean", "Wiener filter"
HINTS = {
    NOISY: "Find the words first. Then listen to the pauses: there the noise is alone, as loud as behind the words.",
    WIENER: "A classical filter from before neural networks. Hiss gets quieter, and what remains flutters and chirps "
    "(&ldquo;musical noise&rdquo;). It follows noise that changes slowly, so babble stays.",
    "MetricGAN": "It turns points of the spectrogram down, never to zero, and keeps the noisy phase: the noise sinks but "
    "does not disappear, and soft consonants may sink with it.",
    "SEGAN": "It writes a new waveform. Listen for a rough or hollow voice and for what becomes of the pauses. Straight "
    "horizontal lines in its picture are whistles of its strided convolutions (&ldquo;checkerboard artefacts&rdquo;).",
    CLEAN: "What all of them try to reach. It is synthetic speech: it sounds like a machine to begin with.",
}


@dataclass
class Results:
    """All that the page shows."""

    pairs: list  # of data.Pair
    sounds: dict  # label -> waveforms, "noisy" first, "clean" last
    tables: dict  # label -> ScoreTable, "noisy" first
    classes: dict  # label -> class of the model, for networks
    released: dict  # preset -> model
    history: dict  # of the training
    steps: int
    minutes: float
    paper_times: int  # weights of the paper's generator, in units of the trained one
    seed: int


def run(out="demo", minutes=1.0, n_pairs=8, console=None, seed=0):
    """Make the demo.

    Args:
        out: folder to fill; files of an earlier demo are replaced.
        minutes: time for training the tiny SEGAN.
        n_pairs: noisy utterances of the toy corpus' test speakers.
        console: rich.console.Console to print on.
        seed: of everything random.

    Returns:
        pathlib.Path of index.html.

    Example:
        >>> demo.run("demo", minutes=0.2, n_pairs=3)  # doctest: +SKIP
    """
    out, console, start = Path(out), console or Console(), time.monotonic()
    (out / "figures").mkdir(parents=True, exist_ok=True)

    def say(text):
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    say(f"1. Noisy speech: {n_pairs} utterances of the toy corpus' test speakers at {_listed(SNRS_DB)} dB SNR")
    pairs = data.toy_pairs("test", n=n_pairs, snr_db=SNRS_DB, seed=seed)
    released, classes = _released()
    if not released:
        say("   No released weights in this copy of the package: their rows are absent.")
    say(f"2. Training a tiny SEGAN for {_minutes(minutes)}")
    model, history, steps = train(minutes, console, seed)
    say(f"   {steps} steps; mean error of the waveform (g_l1) {history['g_l1'][0]:.4f} -> {history['g_l1'][-1]:.4f}")

    say("3. Enhancing and scoring")
    mine = f"new SEGAN, {steps} steps"
    classes[mine] = "SEGAN"
    systems = {NOISY: lambda wav, rate: wav, WIENER: classical.wiener}
    systems |= {**{name: found.enhance for name, found in released.items()}, mine: model.enhance}
    sounds = {label: [enhance(p.noisy, p.sample_rate) for p in pairs] for label, enhance in systems.items()}
    tables = {label: score(pairs, wavs) for label, wavs in sounds.items()}
    console.print(score_table(tables))
    write_csv(out / "scores.csv", pairs, tables)
    times = round(catalogue.PARAMETERS["SEGAN"][0] / model.generator.count_params())
    results = Results(pairs, {**sounds, CLEAN: [p.clean for p in pairs]}, tables, classes, released, history, steps, minutes,
                      times, seed)  # fmt: skip
    path = Page(out, results).write()
    took = terminal.clock(time.monotonic() - start)
    say(f"4. In {out}: index.html ({path.stat().st_size / 1e6:.1f} MB), *.wav, figures/, scores.csv, after {took} min")
    say(f"   Open {path.resolve().as_uri()}")
    return path


def _released():
    """({preset: model}, {preset: class}) of the released presets that give speech."""
    speech = {row["class"] for row in catalogue.papers() if row["outputs"] == "speech"}
    classes = {name: presets.cards()[name]["class"].rpartition(".")[2] for name in presets.names()}
    classes = {name: cls for name, cls in classes.items() if cls in speech}
    return {name: presets.from_preset(name) for name in classes}, classes


def train(minutes, console, seed=0):
    """Train SEGAN.tiny() on the toy corpus' training speakers; returns (model, history, steps)."""
    keras.utils.set_random_seed(seed)
    model = SEGAN.tiny(seed=seed)
    model.compile(*(optimizers.FusedRMSprop(LEARNING_RATE, rho=0.9, epsilon=1e-10) for _ in "GD"))
    pairs = data.toy_pairs("train", n=TRAIN_PAIRS, snr_db=SNRS_DB, seed=seed)
    batches = data.examples(pairs, model, batch_size=BATCH_SIZE, seed=seed).repeat()
    display = terminal.LiveCurves(console, "   SEGAN.tiny()", minutes=minutes, names=CURVES, skip_first=True)
    with display:
        watch = [Budget(minutes), display]
        found = model.fit(batches, epochs=10**6, steps_per_epoch=STEPS_PER_EPOCH, verbose=0, callbacks=watch)
    return model, found.history, int(model.step)


class Budget(callbacks.TimeBudget):
    """A time budget that starts after the first step, in which TensorFlow builds its graph."""

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step) == 1:
            self.on_train_begin()
        super().on_train_batch_end(batch, logs)


def score(pairs, wavs):
    """ScoreTable of one system."""
    return scoring.score_pairs([(pair.name, pair.clean, wav, pair.sample_rate) for pair, wav in zip(pairs, wavs)])


def score_rows(tables):
    """(column titles, rows of text): means, and the number of scores that could not be computed."""
    names = next(iter(tables.values())).metrics
    rows = []
    for label, table in tables.items():
        means = table.means()
        failed = sum(sum(reasons.values()) for reasons in table.failures().values())
        cells = [f"{means[m]:.{scoring.LABELS[m][1]}f}" if np.isfinite(means[m]) else "n/a" for m in names]
        rows.append([label, *cells, str(failed)])
    return ["system", *(scoring.LABELS[m][0] for m in names), "failures"], rows


def score_table(tables):
    """The same for the terminal: rich.table.Table."""
    header, rows = score_rows(tables)
    table = Table(box=box.SIMPLE, pad_edge=False)
    for i, name in enumerate(header):
        table.add_column(name, justify="right" if i else "left", no_wrap=not i)
    for row in rows:
        table.add_row(*row)
    return table


def write_csv(path, pairs, tables):
    """One line per system and utterance; floats in full, NaN for a score that could not be computed."""
    names = next(iter(tables.values())).metrics
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["system", "name", "noise", "snr_db", *names, "failures"])
        for label, table in tables.items():
            for pair, row in zip(pairs, table.rows):
                failures = "; ".join(f"{m}: {why}" for m, why in row["failures"].items())
                writer.writerow([label, pair.name, pair.noise, pair.snr_db, *(row[m] for m in names), failures])


def mask_of(model, noisy):
    """MetricGAN's mask (frames, bins) for a noisy waveform: its output over its input, feature by feature."""
    noisy = tf.constant(noisy[None])
    feature = model.to_feature(signal.magnitude(model.spectrum(noisy)))
    enhanced = model.to_feature(model.enhance_batch(noisy)[0])
    return (enhanced / tf.maximum(feature, 1e-9)).numpy()[0]


def _minutes(minutes):
    seconds = round(60 * minutes)
    return f"{minutes:g} minute{'s' if minutes != 1 else ''}" if seconds % 60 == 0 else f"{seconds} seconds"


def _listed(values):
    *most, last = map(str, values)
    return f"{', '.join(most)} and {last}" if most else last


# ---- the page --------------------------------------------------------------------------------------------------------


class Page:
    """Writes index.html and the files beside it."""

    def __init__(self, out, results):
        self.out, self.r = out, results
        for old in [*out.glob("*.wav"), *(out / "figures").glob("*.png")]:
            old.unlink()

    def write(self):
        """Fill demo_page.html; returns the path of index.html."""
        r = self.r
        first, last = r.history["g_l1"][0], r.history["g_l1"][-1]
        parts = {
            "n_pairs": len(r.pairs), "n_systems": len(r.tables) - 1, "time": _minutes(r.minutes), "version": __version__,
            "style": _style(), "floor": f"{FLOOR_DB:.0f}", "hints": self.hints(), "steps": r.steps,
            "first_error": f"{first:.4f}", "last_error": f"{last:.4f}", "times": r.paper_times,
            "steps_per_epoch": STEPS_PER_EPOCH, "batch_size": BATCH_SIZE, "curves_table": self.curves_table(),
            "scores": self.scores(), "seed": r.seed, "date": time.strftime("%Y-%m-%d"), "tensorflow": tf.__version__,
            "command": f"python -m ganse_tf demo --minutes {r.minutes:g} --pairs {len(r.pairs)}",
            "keras": keras.__version__, "python": platform.python_version(), "cores": setup_check.cores(),
            "machine": platform.machine(), **self.picture("curves", self.curves()), **self.mask(),
        }  # fmt: skip
        text = Path(__file__).with_name("demo_page.html").read_text(encoding="utf-8")
        text = _choose(text, mask="mask_image" in parts, absent=not r.released, released=bool(r.released))
        page = string.Template(text)
        room = PAGE_BYTES - len(page.safe_substitute(parts).encode())
        path = self.out / "index.html"
        path.write_text(page.substitute(parts, examples=self.examples(room)), encoding="utf-8")
        return path

    def hints(self):
        """List items, one per kind of system on the page."""
        labels = {}
        for label in self.r.sounds:
            labels.setdefault(self.r.classes.get(label, label), []).append(label)
        return "\n".join(
            f"<li><strong>{html.escape(_listed(found))}.</strong> {HINTS[kind]}</li>"
            for kind, found in labels.items() if kind in HINTS
        )  # fmt: skip

    # ---- sounds

    def shown(self):
        """Indices of the pairs to listen to, in order: one of each noise of SHOWN_KINDS, then whatever there is."""
        by_kind = {pair.noise: i for i, pair in reversed(list(enumerate(self.r.pairs)))}
        chosen = [by_kind[kind] for kind in SHOWN_KINDS if kind in by_kind]
        return (chosen + [i for i in range(len(self.r.pairs)) if i not in chosen])[: len(SHOWN_KINDS)]

    def examples(self, room):
        """Blocks of players and spectrograms, as many as fit into `room` bytes (at least one)."""
        blocks = []
        for number, i in enumerate(self.shown(), 1):
            block = self.example(number, i)
            room -= len(block.encode())
            if blocks and room < 0:
                break
            blocks.append(block)
        return "\n".join(blocks)

    def example(self, number, i):
        pair = self.r.pairs[i]
        wavs = {label: wavs[i] for label, wavs in self.r.sounds.items()}
        spectra = {label: viz._magnitude(np.asarray(wav, np.float64), N_FFT, HOP) for label, wav in wavs.items()}
        loudest = max(1e-12, *(mag.max() for mag in spectra.values()))
        titles = (NOISY, self.best(), CLEAN)
        figure = viz.triptych(*(wavs[label] for label in titles), pair.sample_rate, titles=titles)
        viz.save(figure, self.out / "figures" / f"example{number}.png", dpi=FIGURE_DPI)
        rows = [self.sound(number, i, label, wav, spectra[label], loudest) for label, wav in wavs.items()]
        seconds = len(pair.clean) / pair.sample_rate
        ticks = "".join(f'<span style="left:{100 * t / seconds:.2f}%">{t} s</span>' for t in range(int(seconds) + 1))
        return "\n".join([
            f"<h3>Example {number}: {_condition(pair)}</h3>",
            f"<p>Speaker {html.escape(pair.speaker)} says: <q>{html.escape(pair.text)}</q></p>", *rows,
            f'<div class="ticks"><div class="axis" aria-hidden="true">{ticks}</div></div>',
        ])  # fmt: skip

    def best(self):
        """The system with the highest mean PESQ."""
        means = {label: table.means()["pesq_wb"] for label, table in self.r.tables.items() if label != NOISY}
        return max(means, key=lambda label: np.nan_to_num(means[label], nan=-1.0))

    def sound(self, number, i, label, wav, mag, loudest):
        """One row: name, scores, player, spectrogram."""
        pair, heading = self.r.pairs[i], f"{number}-{_slug(label)}"
        path = self.out / f"{number}_{_slug(label)}.wav"
        audio.write(path, np.clip(wav, -1, 1), pair.sample_rate)
        alt = f"Spectrogram of {label}, {len(wav) / pair.sample_rate:.1f} s: {_levels(mag, loudest, pair.sample_rate)}."
        return (
            f'<div class="sound" role="group" aria-labelledby="{heading}"><div>'
            f'<h4 id="{heading}">{html.escape(label)}</h4><p>{self.facts(label, i)}</p>'
            f'<audio controls preload="metadata" aria-labelledby="{heading}" '
            f'src="{_data_uri("audio/wav", path.read_bytes())}">Your browser plays no sound; the file is {path.name}.</audio>'
            f'</div><div class="strip"><img alt="{html.escape(alt)}" src="{_data_uri("image/png", _strip(mag, loudest))}">'
            f'<span class="top" aria-hidden="true">{pair.sample_rate // 2000} kHz</span>'
            '<span class="bottom" aria-hidden="true">0</span><div class="head"></div></div></div>'
        )

    def facts(self, label, i):
        """'PESQ 1.52, STOI 0.88, SI-SDR 9.7 dB'."""
        if label == CLEAN:
            return "the target"
        row = self.r.tables[label].rows[i]
        found = [text.format(row[name]) for name, text in SHORT_SCORES.items() if np.isfinite(row[name])]
        return ", ".join(found) or "no score could be computed"

    # ---- pictures and tables

    def picture(self, name, figure):
        """Save a figure; returns its alt text and its data URI for the template."""
        path = self.out / "figures" / f"{name}.png"
        alt = viz.save(figure, path, dpi=FIGURE_DPI)
        return {f"{name}_alt": html.escape(alt), f"{name}_image": _data_uri("image/png", path.read_bytes())}

    def mask(self):
        """The mask of the first released MetricGAN for the first example; nothing if there is none."""
        names = [name for name, cls in self.r.classes.items() if cls == "MetricGAN"]
        if not names:
            return {}
        pair = self.r.pairs[self.shown()[0]]
        axes = viz.mask(mask_of(self.r.released[names[0]], pair.noisy), pair.sample_rate, title=f"mask of {names[0]}")
        return {"mask_text": html.escape(pair.text), **self.picture("mask", axes.figure)}

    def curves(self):
        return viz.curves({name: self.r.history[name] for name in CURVES}, title="SEGAN.tiny() on the toy corpus")

    def curves_table(self):
        epochs = len(self.r.history["g_l1"])
        picked = np.unique(np.linspace(0, epochs - 1, min(TABLE_ROWS, epochs)).round().astype(int))
        rows = [[str(e + 1), *(f"{self.r.history[name][e]:.4f}" for name in CURVES)] for e in picked]
        return _table(["epoch", *CURVES], rows, "Means of an epoch")

    def scores(self):
        header, rows = score_rows(self.r.tables)
        for column in range(1, len(header) - 1):
            best = max((row[column] for row in rows if row[column] != "n/a"), key=float, default=None)
            for row in rows:
                row[column] = f"<strong>{best}</strong>" if row[column] == best else row[column]
        caption = (
            f"Means over {len(self.r.pairs)} utterances of test speakers at {_listed(SNRS_DB)} dB SNR. Higher is better "
            "everywhere; the best value of a column is bold."
        )
        return _table(header, rows, caption)


def _choose(text, **conditions):
    """Keep or drop the parts of the template between <!-- if NAME --> and <!-- end NAME -->."""
    for name, keep in conditions.items():
        text = re.sub(f"<!-- if {name} -->(.*?)<!-- end {name} -->", r"\1" if keep else "", text, flags=re.DOTALL)
    return text


def _condition(pair):
    return f"{pair.noise.replace('_', ' ')} noise, {pair.snr_db:g} dB SNR"


def _table(header, rows, caption):
    """An HTML table; the first cell of a row is its header, the other cells of `rows` may hold markup."""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header)
    lines = []
    for name, *cells in rows:
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>' + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _slug(label):
    words = "".join(c if c.isalnum() else " " for c in label.lower()).split()
    return "_".join(words)


def _data_uri(kind, content):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _palette():
    """256 colours (r, g, b) of the map used for spectrograms."""
    import matplotlib

    return (matplotlib.colormaps["magma"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)


def _style():
    """What all pages look like: page.css, with the palette's colours."""
    gradient = ", ".join("#{:02x}{:02x}{:02x}".format(*colour) for colour in _palette()[::15])
    return string.Template(Path(__file__).with_name("page.css").read_text(encoding="utf-8")).substitute(gradient=gradient)


def _strip(mag, loudest, levels=256):
    """A spectrogram without axes as PNG: one pixel per frame and bin, so that all strips of an example align.

    Fewer `levels` make a smaller file.
    """
    from PIL import Image  # comes with matplotlib

    level = 20 * np.log10(np.maximum(mag, 1e-12) / loudest)
    index = np.clip(np.rint((levels - 1) * (1 - level / FLOOR_DB)), 0, levels - 1) * (255 / (levels - 1))
    index = np.rint(index).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(index[::-1]))
    picture.putpalette(_palette().tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _levels(mag, loudest, sample_rate):
    """What a spectrogram shows, for those who do not see it: mean level of its lower and of its upper half."""
    half = mag.shape[0] // 2
    low, high = (20 * np.log10(max(float(np.sqrt(np.mean(part**2))), 1e-12) / loudest) for part in (mag[:half], mag[half:]))
    return f"mean level {low:.0f} dB below {sample_rate // 4000} kHz and {high:.0f} dB above, re the loudest point"
