"""How fast `ganse_tf.data.examples` delivers training windows, from every kind of source.

    python benchmarks/pipeline.py                 # prints the table and writes benchmarks/pipeline.md

The examples are SEGAN's: windows of 16384 samples with 50 % overlap, pre-emphasis, shuffled, in batches of 32. The sound
is the toy corpus' training part. The first epoch includes reading and decoding; the next ones show what the cache gives.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from ganse_tf import audio, data

BATCH = 32
EPOCHS = 3  # timed after the first one
SECONDS = 4.0  # length of a pair from the Mixer


class Segan:
    """SEGAN's examples without its networks."""

    sample_rate = 16000
    step = 0

    def preprocess(self, noisy, clean):
        frames = [tf.signal.frame(wav, 16384, 8192) for wav in (noisy, clean)]
        return tuple(tf.concat([x[:, :1], x[:, 1:] - 0.95 * x[:, :-1]], 1)[..., None] for x in frames)


def write_folder(pairs, folder, suffix):
    """Write pairs as FOLDER/noisy and FOLDER/clean."""
    for pair in pairs:
        noisy, clean, rate = pair.load()
        audio.write(folder / "noisy" / f"{pair.name}{suffix}", noisy, rate)
        audio.write(folder / "clean" / f"{pair.name}{suffix}", clean, rate)
    return data.pairs(folder)


def measure(make):
    """Seconds to the first batch, windows/s of the first epoch, median of the next, and their windows/CPU-second."""
    start = time.perf_counter()
    batches = make()
    first, rates, busy = None, [], []
    for _ in range(1 + EPOCHS):
        windows, begin, cpu = 0, time.perf_counter(), time.process_time()
        for noisy, _ in batches:
            first = first or time.perf_counter() - start
            windows += int(noisy.shape[0])
        rates.append(windows / (time.perf_counter() - begin))
        busy.append(windows / (time.process_time() - cpu))
    return first, rates[0], statistics.median(rates[1:]), statistics.median(busy[1:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".md"), help="Markdown file to write")
    args = parser.parse_args()
    model, pairs = Segan(), data.toy_pairs("train")
    minutes = sum(len(pair.clean) for pair in pairs) / 16000 / 60
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        flac, wav = write_folder(pairs, folder / "flac", ".flac"), write_folder(pairs, folder / "wav", ".wav")
        records = data.write_records(pairs, folder / "records")
        speech = data.toy_corpus("train")
        rng = np.random.default_rng(0)
        hum = [rng.standard_normal(60 * 16000).astype(np.float32) for _ in range(4)]
        sources = {
            "arrays in memory": lambda: data.examples(pairs, model, BATCH),
            "FLAC files, `cache=True`": lambda: data.examples(flac, model, BATCH),
            "FLAC files, `cache=False`": lambda: data.examples(flac, model, BATCH, cache=False),
            "WAV files, `cache=False`": lambda: data.examples(wav, model, BATCH, cache=False),
            "TFRecord shards": lambda: data.examples(records, model, BATCH),
            "Mixer, noise recordings": lambda: data.examples(data.Mixer(speech, hum, seconds=SECONDS), model, BATCH),
            "Mixer, babble": lambda: data.examples(data.Mixer(speech, "babble", seconds=SECONDS), model, BATCH),
            "Mixer, engine (slowest kind)": lambda: data.examples(
                data.Mixer(speech, "engine", seconds=SECONDS), model, BATCH
            ),
        }
        data.toy_corpus("train"), data.Mixer(speech, "babble")[0]  # decode the toy corpus before the clock starts
        lines = [
            f"SEGAN windows per second from `data.examples`; {len(pairs)} pairs, {minutes:.1f} minutes, batch {BATCH}, "
            f"TensorFlow {tf.__version__}, {os.cpu_count()} CPU cores. Made by `python benchmarks/pipeline.py`; the median "
            f"of {EPOCHS} epochs after the first.",
            "",
            "| source | first batch (s) | first epoch (windows/s) | later epochs (windows/s) | windows per CPU-second |",
            "|---|---|---|---|---|",
        ]
        for name, make in sources.items():
            first, *rates = measure(make)
            lines.append(f"| {name} | {first:.2f} | " + " | ".join(f"{rate:.0f}" for rate in rates) + " |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "`first batch` includes building the pipeline, counting the examples and filling the shuffle buffer (64 MB).",
        f"Load average at the end: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores. On a busy machine the three columns of "
        "wall-clock time say little; windows per CPU-second (all threads added) hardly depend on other programs.",
    ]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
