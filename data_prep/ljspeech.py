"""LJSpeech 1.1: one woman reading non-fiction books, 22.05 kHz; the free stand-in for Blizzard 2011.

    LJSpeech-1.1/metadata.csv ("LJ001-0001|as printed|numbers written out"), LJSpeech-1.1/wavs/LJ001-0001.wav

One speaker cannot be split by speaker; chapters are kept apart instead: LJ001 is test, LJ002 valid (our choice).
The SHA-256 is the one that torchaudio's LJSPEECH checks. No size is published there.
"""

import csv
from pathlib import Path

from data_prep.corpus import Archive, Card, LayoutError, Recording, wavs

ARCHIVES = (
    Archive(
        "LJSpeech-1.1.tar.bz2",
        ("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",),
        sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        about=2_600_000_000,
    ),
)
CARD = Card(
    name="ljspeech",
    title="The LJ Speech dataset 1.1",
    home="https://keithito.com/LJ-Speech-Dataset/",
    licence="public domain",
    citation="K. Ito, L. Johnson: The LJ Speech Dataset. https://keithito.com/LJ-Speech-Dataset/, 2017.",
    unpacked_ratio=1.5,
)
SPLITS = {"LJ001": "test", "LJ002": "valid"}


def archives(parts=()):
    return list(ARCHIVES)


def find(folder, parts=None):
    """Every clip below `folder` with its transcript (numbers written out)."""
    files = [path for path in wavs(folder) if path.stem.startswith("LJ")]
    tables = sorted(Path(folder).rglob("metadata.csv"))
    if not files or not tables:
        raise LayoutError(f"{folder} has no LJSpeech-1.1/metadata.csv and wavs/LJ*.wav in it; see {CARD.home}.")
    with open(tables[0], newline="", encoding="utf-8") as file:
        texts = {row[0]: row[-1] for row in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE) if len(row) > 1}
    return [
        Recording(
            name=path.stem, clean=str(path), speaker="LJ", gender="f", text=texts.get(path.stem, ""),
            split=SPLITS.get(path.stem.split("-")[0], "train"),
        )
        for path in files
    ]  # fmt: skip
