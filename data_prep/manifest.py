"""Manifest files (CSV): one row per utterance, paths relative to the manifest."""

import csv
from pathlib import Path


def write(path, rows, columns=None):
    path = Path(path)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
