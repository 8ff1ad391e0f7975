"""Real-time factor of every row, in one run on one machine: `python -m results.rtf`.

Ten seconds of noisy toy speech are enhanced once to warm up (TensorFlow builds its graph) and three times more; the real-time
factor is the median time divided by ten seconds: 0.1 is ten times faster than speech. Two cores at most. Run it on an idle
machine: rtf.json keeps the load at the start, and the table repeats it.
"""

import json
import os
import statistics
import time
from pathlib import Path

import numpy as np

from ganse_tf import data, setup_check
from results import score

FILE = Path(__file__).parent / "rtf.json"
SECONDS, REPEATS, CORES = 10, 3, 2


def read():
    """What `main` wrote: machine, cores, load, date, rows (row -> real-time factor)."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {"rows": {}}


def sound():
    """Ten seconds of noisy speech."""
    pairs = data.toy_pairs(**score.TOY)
    return np.concatenate([p.noisy for p in pairs])[: SECONDS * pairs[0].sample_rate], pairs[0].sample_rate


def measure(enhance, wav, rate):
    """Median of REPEATS runs after a first one, in seconds per second of sound."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        enhance(wav, rate)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) * rate / len(wav)


def main():
    if hasattr(os, "sched_setaffinity"):  # before TensorFlow counts the cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    cores = setup_check.cores()
    load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    wav, rate = sound()
    factors = {}
    for row in score.rows():
        if row == score.NOISY:
            continue
        try:
            factors[row] = float(f"{measure(score.enhancer(row), wav, rate):.3g}")
        except NotImplementedError:  # gives no sound
            continue
        print(f"{row}: {factors[row]:g}", flush=True)
    machine, date = setup_check.processor(), time.strftime("%Y-%m-%d")
    found = {"machine": machine, "cores": cores, "load": load, "date": date, "rows": factors}
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
