"""Blizzard Challenge 2011: one American female voice ("Nancy", Lessac Technologies), 16 hours; the post-filter's corpus.

    wavn/<id>.wav (or any folder of <id>.wav) and a file of lines  ( id "text" )

A signed licence gives user name and password; the download is never automated. Non-commercial research only. There are no
official splits: the last twentieth of the recordings (by name) is test, the one before it valid (our choice).
"""

import re
from pathlib import Path

from data_prep.corpus import Card, LayoutError, Recording, wavs

HELD_OUT = 20  # one part in twenty for valid, one for test
CARD = Card(
    name="blizzard2011",
    title="Blizzard Challenge 2011, Lessac Technologies (the voice Nancy)",
    home="https://www.cstr.ed.ac.uk/projects/blizzard/2011/lessac_blizzard2011/",
    licence="signed licence, non-commercial research; not to be passed on",
    citation="S. King, V. Karaiskos: The Blizzard Challenge 2011. Blizzard Challenge Workshop, 2011.",
    automatic=False,
    stand_in="ljspeech (public domain)",
    layout="wavn/<id>.wav and a file of lines ( id \"text\" )",
)


def archives(parts=()):
    return []


def find(folder, parts=None):
    """Every recording that has a line of text."""
    texts = _texts(Path(folder))
    files = {path.stem: path for path in wavs(folder) if path.stem in texts}
    if not files:
        raise LayoutError(f"{folder} does not look like Blizzard 2011: expected {CARD.layout}.")
    names = sorted(files)
    held_out = max(1, len(names) // HELD_OUT)
    recordings = []
    for i, name in enumerate(names):
        split = "test" if i >= len(names) - held_out else "valid" if i >= len(names) - 2 * held_out else "train"
        recordings.append(
            Recording(name=name, clean=str(files[name]), speaker="nancy", gender="f", text=texts[name], split=split)
        )
    return recordings


def _texts(folder):
    """id -> text, from any small text file with lines ( id "text" )."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix.lower() in (".data", ".txt", ".done", ""):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                match = re.fullmatch(r'\s*\(\s*(\S+)\s+"(.*)"\s*\)\s*', line)
                if match:
                    found[match[1]] = match[2].replace('\\"', '"')
    return found
