"""TIMIT (LDC93S1): 630 speakers, 10 sentences each, 16 kHz; the user's own copy.

    TIMIT/{TRAIN,TEST}/DR1..DR8/<F|M>XXX0/{SA1,SX11,SI1027,...}.{WAV,TXT,PHN,WRD}

The `.WAV` are NIST SPHERE, whatever their name says. Some copies are in lower case, some hold `.WAV.wav` duplicates
(RIFF): both are handled. Every speaker says the same two SA sentences; they would leak text from training to test, so
the recipes leave them out (`sa=False`).

Parts: `train` (TRAIN), `core` (the core test set: 24 speakers of TEST), `test` (the other speakers of TEST).
"""

import re
from pathlib import Path

from data_prep.corpus import Card, LayoutError, Recording, chosen_parts

RATE = 16000  # Hz
CORE_SPEAKERS = frozenset(
    "mdab0 mwbt0 felc0 mtas1 mwew0 fpas0 mjmp0 mlnt0 fpkt0 mlll0 mtls0 fjlm0 mbpm0 mklt0 fnlp0 mcmj0 mjdh0 fmgd0 mgrt0 "
    "mnjm0 fdhc0 mjln0 mpam0 fmld0".split()
)  # two men and one woman of each dialect region; the same list in several public recipes
FILES = {"train": 4620, "test": 1680}  # in TRAIN and TEST, SA sentences included
CARD = Card(
    name="timit",
    title="TIMIT acoustic-phonetic continuous speech corpus (LDC93S1)",
    home="https://catalog.ldc.upenn.edu/LDC93S1",
    licence="LDC user agreement (fee or membership); not to be passed on",
    citation="J. Garofolo, L. Lamel, W. Fisher, J. Fiscus, D. Pallett, N. Dahlgren, V. Zue: TIMIT acoustic-phonetic "
    "continuous speech corpus. LDC93S1, Linguistic Data Consortium, 1993.",
    automatic=False,
    stand_in="librispeech (dev-clean and test-clean, CC BY 4.0); offline: toy",
    layout="TIMIT/{TRAIN,TEST}/DR1..DR8/<speaker>/*.WAV (NIST SPHERE) with .TXT and .WRD beside them",
    parts=("train", "core", "test"),
    default_parts=("train", "core", "test"),
)


def archives(parts=()):
    return []


def find(folder, parts=None, sa=True):
    """Every sentence of the parts; text from .TXT, word times from .WRD."""
    wanted = chosen_parts(CARD, parts)
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        match = re.fullmatch(r"(s[aix]\d+)\.wav(\.wav)?", path.name.lower())
        place = [p.lower() for p in path.relative_to(folder).parts[:-1]]
        if not match or len(place) < 2 or not ({"train", "test"} & set(place)) or not re.fullmatch(r"[fm]\w{3}\d", place[-1]):
            continue
        name = f"{place[-1]}_{match[1]}"
        if name not in found or match[2] is None:  # prefer the original to its .WAV.wav copy
            found[name] = (path, place)
    if not found:
        raise LayoutError(f"{folder} does not look like TIMIT: expected {CARD.layout}.")
    sides = {"train": 0, "test": 0}
    recordings = []
    for name, (path, place) in sorted(found.items()):
        side = "train" if "train" in place else "test"
        sides[side] += 1
        speaker, sentence = name.split("_")
        part = side if side == "train" else "core" if speaker in CORE_SPEAKERS else "test"
        if part not in wanted or (sentence.startswith("sa") and not sa):
            continue
        stem = path.parent / re.sub(r"(?i)(\.wav)+$", "", path.name)
        recordings.append(
            Recording(
                name=name, clean=str(path), speaker=speaker, gender=speaker[0], text=_text(stem), words=_words(stem),
                split="train" if side == "train" else "test", part=part,
            )
        )  # fmt: skip
    for side, count in sides.items():
        if count != FILES[side] and ({"train"} if side == "train" else {"core", "test"}) & set(wanted):
            raise LayoutError(
                f"{folder} has {count} sentences in {side.upper()}, TIMIT has {FILES[side]}. The copy is not whole; copy "
                f"the TIMIT folder again."
            )
    return recordings


def _beside(stem, suffix):
    """The file with this suffix in either case, or None."""
    for spelling in (suffix.upper(), suffix.lower()):
        path = stem.with_name(f"{stem.name}.{spelling}")
        if path.is_file():
            return path
    return None


def _text(stem):
    """"0 46797 She had your dark suit ..." -> the words."""
    path = _beside(stem, "txt")
    line = path.read_text(encoding="latin-1").strip() if path else ""
    return re.sub(r"^\d+ \d+ ", "", line)


def _words(stem):
    """((word, start s, end s), ...) from the .WRD file, whose times are samples."""
    path = _beside(stem, "wrd")
    if path is None:
        return ()
    rows = [line.split() for line in path.read_text(encoding="latin-1").splitlines()]
    return tuple((row[2], int(row[0]) / RATE, int(row[1]) / RATE) for row in rows if len(row) == 3)
