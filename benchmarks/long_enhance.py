"""Memory and time of `enhance` for a recording of an hour; writes benchmarks/long_enhance.md.

    python -m benchmarks.long_enhance
    python -m benchmarks.long_enhance --minutes 10 MetricGAN

Every model works in a fresh process on the same sound, mixed by our code, and reports its peak resident memory (TensorFlow,
the hour of input and the hour of output included) after one minute and after the whole recording. If memory did not grow
with the recording, both differ by little more than the two arrays themselves (2 x 230 MB for an hour at 16 kHz, float32).
"""

import argparse
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

OUTPUT = Path(__file__).with_suffix(".md")
LIMIT_MB = 1500
MODELS = ("MetricGAN", "SEGAN", "UNetGAN", "DNNGAN")


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def work(name, minutes):
    """One line: peak MB after one minute of sound, peak MB after all of it, seconds for all of it."""
    import ganse_tf
    from ganse_tf import data

    model = getattr(ganse_tf, name).tiny()
    piece = np.concatenate([p.noisy for p in data.toy_pairs("test", n=20)])
    minute = np.resize(piece, 60 * model.sample_rate)
    model.enhance(minute, model.sample_rate)
    short = peak_mb()
    wav = np.resize(minute, int(minutes * 60 * model.sample_rate))
    start = time.perf_counter()
    out = model.enhance(wav, model.sample_rate)
    seconds = time.perf_counter() - start
    if out.shape != wav.shape or not np.isfinite(out).all():
        raise RuntimeError(f"{name} returned {out.shape} for {wav.shape}, or numbers that are not finite.")
    print(short, peak_mb(), seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"default: {', '.join(MODELS)} (their tiny sizes)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        return work(args.worker, args.minutes)
    rows = []
    for name in args.models:
        command = [sys.executable, "-m", "benchmarks.long_enhance", "--worker", name, "--minutes", str(args.minutes)]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=OUTPUT.parents[1]).stdout.split()
        short, whole, seconds = map(float, found[-3:])
        under = "yes" if whole < LIMIT_MB else "no"
        rows.append(f"| {name}.tiny() | {short:.0f} | {whole:.0f} | {under} | {seconds / (60 * args.minutes):.4f} |")
        print(rows[-1], flush=True)
    head = [f"| | peak MB after 1 min | peak MB after {args.minutes:g} min | under {LIMIT_MB} MB | RTF |",
            "|---|---:|---:|---|---:|"]  # fmt: skip
    facts = [f"`python -m benchmarks.long_enhance`, {os.cpu_count()} cores, {platform.system()}, load average",
             f"{os.getloadavg()[0]:.1f}. RTF = seconds of work per second of sound; other jobs make it larger."]  # fmt: skip
    text = [f"# `enhance` for {args.minutes:g} minutes of sound", "\n".join([*head, *rows]), " ".join(facts)]
    OUTPUT.write_text("\n\n".join(text) + "\n")


if __name__ == "__main__":
    main()
