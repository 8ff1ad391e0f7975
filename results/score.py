"""Score every released system: `python -m results.score [--pairs FOLDER --label vbd] [ROW ...]`.

Without `--pairs` the test set is the toy corpus' own: 56 utterances of its test speakers, the same on every machine. With
it, the pairs of a folder that holds noisy/ and clean/. One line per utterance goes to csv/SET/ROW.csv, what was scored to
csv/index.json, the means to the card of the preset. Only rows that are new are scored: a preset whose SHA-256 changed, a
baseline whose source did, or all of them when the test set is another one.

Test pairs are never trained on, and no checkpoint is chosen on them.
"""

import argparse
import hashlib
import inspect
import json
import time
from pathlib import Path

import numpy as np

from ganse_tf import data, metrics, presets, scoring, version
from ganse_tf.downstream import classical

FOLDER = Path(__file__).parent / "csv"
INDEX = FOLDER / "index.json"
METRICS = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "ssnr", "csig", "cbak", "covl")
TOY = dict(split="test", n=56, snr_db=(0, 5, 10, 15), seed=0)  # 7 kinds of noise at 4 SNRs, twice
SETS = {"toy": "toy corpus test, 56 files", "vbd": "VB+D excerpt, 41 files"}  # label -> title
NOISY = "noisy"


def index():
    """What is in the folder: label -> title, made_from, fingerprint, files, rows (row -> version, parameters, ...)."""
    return json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else {}


def csv_path(label, row):
    """Where the scores of one row are: csv/vbd/spectral_subtraction.csv."""
    return FOLDER / label / f"{row.replace(' ', '_')}.csv"


def rows():
    """Row -> what has to change before it is scored again: noisy input, classical baselines, released presets."""
    source = _hash(inspect.getsource(classical).encode())
    baselines = dict.fromkeys(classical.BASELINES, source)
    return {NOISY: "input", **baselines, **{name: presets.cards()[name]["sha256"] for name in presets.names()}}


def enhancer(row):
    """Function (wav, sample_rate) -> wav of a row."""
    if row == NOISY:
        return lambda wav, sample_rate: wav
    return classical.BASELINES.get(row) or presets.from_preset(row).enhance


def facts(row):
    """What a table says about a row besides its scores."""
    if row not in presets.names():
        return {}
    card = presets.cards()[row]
    module, _, class_name = card["class"].rpartition(".")
    return {"class": class_name, "parameters": card["parameters"]}


def test_set(folder=None):
    """(name, noisy, clean, sample_rate) of every pair, and a sentence on where they come from."""
    if folder is None:
        pairs = data.toy_pairs(**TOY)
        made_from = f"data.toy_pairs({', '.join(f'{key}={value!r}' for key, value in TOY.items())})"
    else:
        pairs, made_from = data.pairs(folder), "a folder with noisy/ and clean/"
    return [(p.name, *p.load()) for p in pairs], made_from


def score(loaded, enhance, workers=0):
    """ScoreTable of one row."""
    items = ((name, clean, enhance(noisy, rate), rate) for name, noisy, clean, rate in loaded)
    return metrics.score_pairs(items, METRICS, workers=workers, progress=False)


def stale(label, wanted, fingerprint):
    """Rows of `wanted` that have no valid scores for this test set."""
    known = index().get(label, {})
    if known.get("fingerprint") != fingerprint:
        return list(wanted)
    done = {row: entry["version"] for row, entry in known["rows"].items() if csv_path(label, row).exists()}
    return [row for row, source in wanted.items() if done.get(row) != source]


def parse(parser, arguments):
    """(arguments, label of the test set) of a command that works on the toy corpus or on --pairs FOLDER --label NAME."""
    parser.add_argument("--pairs", help="folder with noisy/ and clean/; the toy corpus if left out")
    parser.add_argument("--label", help=f"short name of the test set, e.g. {', '.join(SETS)}")
    args = parser.parse_args(arguments)
    if (args.pairs is None) != (args.label in (None, "toy")):
        parser.error('name a folder of pairs: --pairs FOLDER --label vbd; "toy" is the set that needs no folder')
    return args, args.label or "toy"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", help="rows to score; all if left out")
    parser.add_argument("--workers", type=int, default=0, help="processes that score; 0 scores in this one")
    parser.add_argument("--again", action="store_true", help="score also what has not changed")
    args, label = parse(parser, arguments)
    wanted = rows()
    if unknown := sorted(set(args.rows) - set(wanted)):
        parser.error(f"there is no row {', '.join(unknown)}; rows: {', '.join(wanted)}")
    loaded, made_from = test_set(args.pairs)
    fingerprint = _fingerprint(loaded)
    known = index().get(label, {})
    if known and known["fingerprint"] != fingerprint:
        print(f"The pairs of {label!r} are not those scored before: every row has to be scored again.")
        known = {}
    title = SETS.get(label, label)
    entry = {"title": title, "made_from": made_from, "fingerprint": fingerprint, "files": len(loaded), "rows": {}, **known}
    todo = [row for row in stale(label, wanted, fingerprint) if not args.rows or row in args.rows]
    todo = [row for row in wanted if row in args.rows or not args.rows] if args.again else todo
    print(f"{title}: {len(todo)} of {len(wanted)} rows to score{': ' + ', '.join(todo) if todo else ''}")
    for row in todo:
        start = time.monotonic()
        try:
            table = score(loaded, enhancer(row), args.workers)
        except NotImplementedError:  # a feature mapper without a way back to sound
            print(f"  {row}: gives no sound; left out")
            continue
        table.to_csv(csv_path(label, row))
        entry["rows"][row] = {"version": wanted[row], "ganse_tf": version.__version__, **facts(row)}
        _write({**index(), label: entry})
        shown = [(scoring.LABELS[m], mean) for m, mean in table.means().items()]
        text = ", ".join(f"{title} {mean:.{decimals}f}" for (title, decimals), mean in shown)
        print(f"  {row}: {text} ({time.monotonic() - start:.0f} s)", flush=True)
        note(label, title, row)
    for row in [row for row in entry["rows"] if row not in wanted]:  # withdrawn presets
        print(f"  {row}: no longer released; removed")
        entry["rows"].pop(row)
        csv_path(label, row).unlink(missing_ok=True)
    _write({**index(), label: entry})


def note(label, title, row):
    """Write means on the card of a preset, next to those of the noisy input."""
    if row not in presets.names() or not csv_path(label, NOISY).exists():
        return
    tables = {"noisy": csv_path(label, NOISY), "enhanced": csv_path(label, row)}
    means = {key: metrics.ScoreTable.from_csv(path).means() for key, path in tables.items()}
    means = {key: {k: round(v, 4) for k, v in found.items()} for key, found in means.items()}
    write_on_card(row, title, means)


def write_on_card(preset, title, means):
    """Add one entry to the scores of a preset's card."""
    presets.cards.cache_clear()
    presets.note(preset, scores={**presets.cards()[preset].get("scores", {}), title: means})


def _write(found):
    FOLDER.mkdir(exist_ok=True)
    order = sorted(found, key=lambda label: (label not in SETS, list(SETS).index(label) if label in SETS else label))
    INDEX.write_text(json.dumps({label: found[label] for label in order}, indent=1) + "\n", encoding="utf-8")


def _fingerprint(loaded):
    """Hash of names, rates, lengths and levels (to 0.1 dB): the same for every packing of the files and on every machine."""

    def level(wav):
        return round(float(10 * np.log10(np.mean(np.square(wav, dtype=np.float64)) + 1e-12)), 1)

    lines = [f"{name} {rate} {len(clean)} {level(noisy)} {level(clean)}" for name, noisy, clean, rate in loaded]
    return _hash("\n".join(lines).encode())


def _hash(content):
    return hashlib.sha256(content).hexdigest()[:16]


if __name__ == "__main__":
    main()
