"""The toy corpus that comes with the package: sixteen synthetic speakers, digits and short sentences, 16 kHz.

No download, no licence to accept: for classrooms without a network, and the stand-in that every recipe can use with
`--limit`. How it was made: `data_prep/toy_corpus.py`.
"""

import json
from pathlib import Path

from data_prep import manifest, toy_corpus
from data_prep.corpus import Card, LayoutError, Recording, chosen_parts

CARD = Card(
    name="toy",
    title="The toy corpus of ganse_tf: synthetic speech made with espeak-ng",
    home="comes with the package (ganse_tf/toy)",
    licence="Apache-2.0",
    citation="ganse_tf, data_prep/toy_corpus.py",
    parts=("train", "valid", "test"),
    default_parts=("train", "valid", "test"),
)


def archives(parts=()):
    return []


def find(folder=None, parts=None):
    """Every utterance of the shipped corpus (or of a folder made by `python -m data_prep.toy_corpus --out`)."""
    folder = Path(folder or toy_corpus.SHIPPED)
    if not (folder / "manifest.csv").is_file():
        raise LayoutError(f"{folder} has no manifest.csv; make the corpus with python -m data_prep.toy_corpus --out DIR.")
    wanted = chosen_parts(CARD, parts)
    return [
        Recording(
            name=row["name"], clean=str(folder / row["clean"]), speaker=row["speaker"], gender=row["gender"],
            text=row["text"], split=row["split"], part=row["split"],
            words=tuple(tuple(word) for word in json.loads(row["words"] or "[]")),
        )
        for row in manifest.read(folder / "manifest.csv") if row["split"] in wanted
    ]  # fmt: skip
