"""RSR2015 (I2R Singapore): 300 speakers, fixed pass-phrases, mobile devices; the cGAN paper's corpus; the user's own copy.

    RSR2015/sph/{male,female}/<speaker>/<speaker>_<session>_<phrase>.sph (or .wav), for example m051_01_002

The cGAN paper uses men only: m051-m100 (phrases 2-30, sessions 1, 4, 7) for the enhancers, m002-m050 (phrase 1) for
enrolment (sessions 1, 4, 7) and test (sessions 2, 3, 5, 6, 8, 9).
"""

import re
from pathlib import Path

from data_prep.corpus import Card, LayoutError, Recording, chosen_parts

ENROL_SESSIONS = frozenset((1, 4, 7))
TEST_SESSIONS = frozenset((2, 3, 5, 6, 8, 9))
CARD = Card(
    name="rsr2015",
    title="RSR2015: robust speaker recognition, text-dependent",
    home="licence agreement with I2R, A*STAR, Singapore (no open address)",
    licence="licence agreement with I2R; not to be passed on",
    citation="A. Larcher, K. A. Lee, B. Ma, H. Li: Text-dependent speaker verification: classifiers, databases and RSR2015. "
    "Speech Communication 60, 56-77, 2014.",
    automatic=False,
    stand_in="librispeech (train-clean-100, men; --protocol cgan)",
    layout="sph/{male,female}/<speaker>/<speaker>_<session>_<phrase>.sph or .wav",
    parts=("enhancer", "enrol", "test"),
    default_parts=("enhancer", "enrol", "test"),
)


def archives(parts=()):
    return []


def find(folder, parts=None):
    """The recordings that the cGAN paper uses, sorted into its three sets."""
    wanted = chosen_parts(CARD, parts)
    recordings = {}
    seen = 0
    for path in sorted(Path(folder).rglob("*")):
        match = re.fullmatch(r"([fm])(\d{3})_(\d{2})_(\d{3})", path.stem)
        if not match or path.suffix.lower() not in (".sph", ".wav"):
            continue
        seen += 1
        number, session, phrase = int(match[2]), int(match[3]), int(match[4])
        part = _part(match[1], number, session, phrase)
        if part in wanted and (path.stem not in recordings or path.suffix.lower() == ".wav"):
            recordings[path.stem] = Recording(
                name=path.stem, clean=str(path), speaker=f"{match[1]}{match[2]}", gender=match[1], part=part,
                split={"enhancer": "train", "enrol": "enrol", "test": "test"}[part],
            )  # fmt: skip
    if not seen:
        raise LayoutError(f"{folder} does not look like RSR2015: expected {CARD.layout}.")
    if not recordings:
        raise LayoutError(f"{folder} has RSR2015 files, but none of the men m002-m100 that the cGAN paper uses.")
    return [recordings[name] for name in sorted(recordings)]


def _part(gender, number, session, phrase):
    """Which set of the paper a recording belongs to, or ""."""
    if gender != "m":
        return ""
    if 51 <= number <= 100 and 2 <= phrase <= 30 and session in ENROL_SESSIONS:
        return "enhancer"
    if 2 <= number <= 50 and phrase == 1:
        return "enrol" if session in ENROL_SESSIONS else "test" if session in TEST_SESSIONS else ""
    return ""
