"""The listening page index.html: pick a file, hear noisy, clean and every system, see spectrograms on one scale, read scores.

Everything is inside the page: MP3 sounds, PNG spectrograms, no network. The files are utterances of the toy corpus' test
set, so their scores are lines of csv/toy. Called by `python -m results.make`.
"""

import html
import io
import string
from pathlib import Path

import numpy as np
import soundfile

from ganse_tf import data, demo, viz
from ganse_tf.downstream import classical
from ganse_tf.version import __version__
from results import make, score

HERE = Path(__file__).parent
PAGE, TEMPLATE = HERE / "index.html", HERE / "template.html"
PAGE_BYTES = 6_000_000  # files that do not fit are left out
KINDS, SNRS_DB = ("babble", "pink", "engine", "wind", "clicks"), (0.0, 5.0)  # of the files to listen to
LONGEST = 2.6  # seconds
N_FFT, HOP, LEVELS = 256, 160, 33  # of the spectrograms: 2.5 dB per colour, 10 ms per column
CLEAN = "clean"


def chosen(pairs):
    """One pair per kind of noise at 0 or 5 dB SNR, the shortest that there is."""
    found = [[p for p in pairs if p.noise == kind and p.snr_db in SNRS_DB] for kind in KINDS]
    shortest = [min(some, key=lambda p: len(p.clean)) for some in found if some]
    return [p for p in shortest if len(p.clean) <= LONGEST * p.sample_rate]


def write():
    """Enhance the chosen files with every scored row and write the page; returns its path."""
    results = next((r for r in make.load() if r.label == "toy"), None)
    if results is None:
        raise SystemExit("There are no scores of the toy corpus yet: run python -m results.score first.")
    pairs = chosen(data.toy_pairs(**score.TOY))
    sounds = {}
    for row in results.tables:
        enhance = score.enhancer(row)
        sounds[row] = [np.clip(enhance(p.noisy, p.sample_rate), -1, 1) for p in pairs]
    sounds[CLEAN] = [p.clean for p in pairs]
    page = string.Template(TEMPLATE.read_text(encoding="utf-8"))
    blocks = []
    for i, pair in enumerate(pairs):
        block = example(i, pair, {row: wavs[i] for row, wavs in sounds.items()}, results)
        if blocks and len("".join([*blocks, block]).encode()) > PAGE_BYTES - 100_000:  # room for the text
            break
        blocks.append(block)
    parts = {
        "style": demo._style(), "floor": f"{demo.FLOOR_DB:.0f}", "version": __version__, "examples": "\n".join(blocks),
        "picker": "\n".join(choice(i, pair) for i, pair in enumerate(pairs[: len(blocks)])),
        "systems": count(len(results.systems()), "system"), "scores": scores(results), "title": html.escape(results.title),
        "made_from": html.escape(results.made_from), "kbps": kbps(pairs[0]),
    }  # fmt: skip
    PAGE.write_text(page.substitute(parts), encoding="utf-8")
    return PAGE


def count(n, word):
    return f"{n} {word}{'' if n == 1 else 's'}"


def choice(i, pair):
    """A radio button of the file picker."""
    checked = " checked" if i == 0 else ""
    name = html.escape(f"{pair.noise.replace('_', ' ')}, {pair.snr_db:g} dB: {pair.text}")
    return f'<label><input type="radio" name="file" value="file{i}"{checked}> {name}</label>'


def example(i, pair, wavs, results):
    """The section of one file: pairs of cells, left D off, right D on."""
    spectra = {row: viz._magnitude(np.asarray(wav, np.float64), N_FFT, HOP) for row, wav in wavs.items()}
    loudest = max(1e-12, *(mag.max() for mag in spectra.values()))
    line = [row["name"] for row in results.tables[score.NOISY].rows].index(pair.name)

    def cell(row, name):
        if row not in wavs:
            return f'<div class="sound none"><h4>{html.escape(name)}</h4><p>Not released.</p></div>'
        return sound(f"{i}-{row.replace(' ', '-')}", name, facts(results, row, line), wavs[row], spectra[row], loudest, pair)

    baselines = list(classical.BASELINES)
    groups = [("Before and target", [cell(score.NOISY, "noisy"), cell(CLEAN, "clean")]),
              ("Classical filters", [cell(row, row) for row in baselines])]  # fmt: skip
    for system in results.systems():
        made_for = make.purpose(results.of(system)["class"])
        heading = f"{system}: {results.of(system)['class']}"
        heading += {"speech": "", "features": " (made for a recogniser)"}.get(made_for, f" ({made_for})")
        groups.append((heading, [cell(system + make.OFF, f"{system}, D off"), cell(system, f"{system}, D on")]))
    body = "\n".join(f"<h3>{html.escape(name)}</h3>\n<div class=\"two\">{''.join(cells)}</div>" for name, cells in groups)
    return (
        f'<section class="file" id="file{i}" aria-labelledby="file{i}-title">'
        f'<h2 id="file{i}-title">File {i + 1}: {pair.noise.replace("_", " ")} noise, {pair.snr_db:g} dB SNR</h2>'
        f"<p>Speaker {html.escape(pair.speaker)} says: <q>{html.escape(pair.text)}</q>"
        f" ({len(pair.clean) / pair.sample_rate:.1f} s, {html.escape(pair.name)})</p>\n{body}</section>"
    )


def facts(results, row, line):
    """'PESQ 1.52, STOI 0.88, SI-SDR 9.7 dB' of one file, as csv/toy says."""
    if row == CLEAN:
        return "the target"
    scores = results.tables[row].rows[line]
    return ", ".join(text.format(scores[m]) for m, text in demo.SHORT_SCORES.items() if np.isfinite(scores[m])) or make.NONE


def sound(id_, name, text, wav, mag, loudest, pair):
    """One cell: name, player, spectrogram, scores."""
    alt = f"Spectrogram of {name}: {demo._levels(mag, loudest, pair.sample_rate)}."
    return (
        f'<div class="sound" role="group" aria-labelledby="{id_}"><h4 id="{id_}">{html.escape(name)}</h4>'
        f'<audio controls preload="metadata" aria-labelledby="{id_}" '
        f'src="{demo._data_uri("audio/mpeg", mp3(wav, pair.sample_rate))}">Your browser plays no sound.</audio>'
        f'<div class="strip"><img alt="{html.escape(alt)}" '
        f'src="{demo._data_uri("image/png", demo._strip(mag, loudest, LEVELS))}">'
        f'<span class="top" aria-hidden="true">{pair.sample_rate // 2000} kHz</span>'
        f'<span class="bottom" aria-hidden="true">0</span>'
        f'<span class="end" aria-hidden="true">{len(wav) / pair.sample_rate:.1f} s</span><div class="head"></div></div>'
        f"<p>{text}</p></div>"
    )


def mp3(wav, rate):
    """Every browser plays it, and it is a quarter of a FLAC file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wav, rate, format="MP3", subtype="MPEG_LAYER_III")
    return buffer.getvalue()


def kbps(pair):
    return round(len(mp3(pair.noisy, pair.sample_rate)) * 8 * pair.sample_rate / len(pair.noisy) / 1000)


def scores(results):
    """The side-by-side table in HTML."""
    header, rows = make.side_by_side(results)
    rows = [[row[0].strip("`"), *map(html.escape, row[1:])] for row in rows]
    caption = f"Means over the {results.files} files. Higher is better. The noisy input and the filters know no D."
    return demo._table(header, rows, caption)
