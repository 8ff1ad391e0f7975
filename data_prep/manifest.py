"""Manifests: one CSV row per recording, shared by every corpus module and read by `ganse_tf.data.pairs`.

Paths are relative to the manifest and use "/", so that a folder can be moved. The first columns are always
`ganse_tf.data.MANIFEST_COLUMNS`; a corpus module may add more (gain, noise_offset, sha256_clean, ...), which the reader
ignores. A manifest of clean speech alone has no `noisy` column: `ganse_tf.data.Mixer` takes it.
"""

import csv
import os
from pathlib import Path

import numpy as np

from ganse_tf import audio, corpus, data

SNR_TOLERANCE = 0.01  # dB, between the manifest and what is measured in the files
SECONDS_TOLERANCE = 0.001


def read(path):
    """Rows as dicts of strings; raises AudioError when the file is missing or has no rows."""
    return data.read_manifest(path)


def write(path, rows, columns=data.MANIFEST_COLUMNS):
    """Write rows (dicts) under the given columns, by rename, so that a killed program leaves no half file.

    Args:
        path: of the CSV file; UTF-8, "\\n" at line ends on every system.
        rows: dicts; a column that a row lacks stays empty.
        columns: names in their order.

    Raises:
        ValueError: a row has a key that is not among the columns, or an absolute path.
    """
    path = Path(path)
    for number, row in enumerate(rows):
        unknown = [key for key in row if key not in columns]
        if unknown:
            raise ValueError(f"Row {number} has {', '.join(unknown)}; the columns are {', '.join(columns)}.")
        for side in ("noisy", "clean"):
            if Path(str(row.get(side, ""))).is_absolute():
                raise ValueError(f"Row {number}: '{row[side]}' is absolute; write it relative to '{path.parent}'.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def validate(path, measure=False):
    """Check a manifest against its files.

    Looks for missing columns and files, names that occur twice, speakers in two splits, other rates or lengths than the
    manifest says, and unequal lengths within a pair.

    Args:
        path: of the CSV file.
        measure: also decode every pair and compare `snr_db` with ``10 log10(sum(clean^2) / sum((noisy - clean)^2))``;
            only for corpora whose noisy is clean plus noise and nothing else (no reverberation, no codec).

    Returns:
        list of sentences, empty when all is well.
    """
    path, rows = Path(path), read(path)
    required = ("name", "clean") if "noisy" not in rows[0] else corpus.REQUIRED_COLUMNS
    missing = [column for column in required if column not in rows[0]]
    if missing:
        return [f"{path.name}: no column {', '.join(missing)}."]
    problems, names, splits = [], set(), {}
    for row in rows:
        if row["name"] in names:
            problems.append(f"{row['name']}: the name occurs more than once.")
        names.add(row["name"])
        if row.get("speaker"):
            first = splits.setdefault(row["speaker"], row.get("split"))
            if first != row.get("split"):
                problems.append(f"{row['name']}: speaker {row['speaker']} is in {first} and in {row.get('split')}.")
        try:
            problems += [f"{row['name']}: {problem}" for problem in _check_row(path.parent, row, measure)]
        except audio.AudioError as error:
            problems.append(f"{row['name']}: {error}")
    return problems


def _check_row(folder, row, measure):
    """Sentences about one row; raises AudioError for a file that cannot be read."""
    sides = [side for side in ("noisy", "clean") if row.get(side)]
    found = {side: corpus.header(folder / row[side]) for side in sides}
    for side, (rate, n_samples) in found.items():
        if row.get("sample_rate") and rate != int(row["sample_rate"]):
            yield f"{row[side]} has {rate} Hz, the manifest says {row['sample_rate']} Hz."
        if row.get("seconds") and abs(n_samples / rate - float(row["seconds"])) > SECONDS_TOLERANCE:
            yield f"{row[side]} lasts {n_samples / rate:.4f} s, the manifest says {row['seconds']} s."
    if len(found) < 2:
        return
    (noisy_rate, noisy_samples), (clean_rate, clean_samples) = found["noisy"], found["clean"]
    corpus.check_sides("the pair", noisy_samples, noisy_rate, clean_samples, clean_rate)
    if measure and row.get("snr_db"):
        noisy, clean = (audio.read(folder / row[side])[0].astype(np.float64) for side in ("noisy", "clean"))
        snr_db = 10 * np.log10(np.sum(clean**2) / max(np.sum((noisy - clean) ** 2), 1e-20))
        if abs(snr_db - float(row["snr_db"])) > SNR_TOLERANCE:
            yield f"the measured SNR is {snr_db:.2f} dB, the manifest says {row['snr_db']} dB."
