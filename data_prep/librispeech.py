"""LibriSpeech (OpenSLR 12): read English audiobooks, 16 kHz; the free stand-in for TIMIT, WSJ and RSR2015.

    LibriSpeech/<part>/<speaker>/<chapter>/<speaker>-<chapter>-NNNN.flac, .../<speaker>-<chapter>.trans.txt,
    LibriSpeech/SPEAKERS.TXT ("ID | SEX | SUBSET | MINUTES | NAME")

Speakers never appear in two parts. Sizes and MD5 sums are the publisher's (md5sum.txt at OpenSLR).
"""

from pathlib import Path

from data_prep.corpus import Archive, Card, LayoutError, Recording, chosen_parts

URL = "https://www.openslr.org/resources/12/"
FACTS = {  # part: (bytes, MD5)
    "dev-clean": (337926286, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (314305928, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (346663984, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (328757843, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-100": (6387309499, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (23049477885, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (30593501606, "d1a0fd59409feb2c614ce4d30c387708"),
}
CARD = Card(
    name="librispeech",
    title="LibriSpeech: an ASR corpus based on public domain audio books",
    home="https://www.openslr.org/12",
    licence="CC BY 4.0",
    citation="V. Panayotov, G. Chen, D. Povey, S. Khudanpur: LibriSpeech: an ASR corpus based on public domain audio "
    "books. ICASSP 2015.",
    parts=tuple(FACTS),
    default_parts=("dev-clean", "test-clean"),
)
SPLITS = {"train": "train", "dev": "valid", "test": "test"}


def archives(parts):
    """One .tar.gz per part."""
    return [Archive(f"{part}.tar.gz", (f"{URL}{part}.tar.gz",), *FACTS[part]) for part in parts]


def find(folder, parts=None):
    """Every utterance of the parts below `folder`, with transcript and gender."""
    recordings = []
    for part in chosen_parts(CARD, parts):
        roots = [path for path in sorted(Path(folder).rglob(part)) if path.is_dir() and any(path.glob("*/*/*.flac"))]
        if not roots:
            raise LayoutError(
                f"{folder} has no {part}/<speaker>/<chapter>/*.flac in it. Expected the unpacked {part}.tar.gz of "
                f"{CARD.home}."
            )
        genders = _genders(roots[0].parent / "SPEAKERS.TXT")
        for chapter in sorted(roots[0].glob("*/*/")):
            texts = _texts(chapter)
            for path in sorted(chapter.glob("*.flac")):
                speaker = path.stem.split("-")[0]
                recordings.append(
                    Recording(
                        name=path.stem, clean=str(path), speaker=speaker, gender=genders.get(speaker, ""),
                        text=texts.get(path.stem, ""), split=SPLITS[part.split("-")[0]], part=part,
                    )
                )  # fmt: skip
    return recordings


def _texts(chapter):
    """Utterance -> words, from the chapter's .trans.txt."""
    lines = [line for path in chapter.glob("*.trans.txt") for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split(" ", 1) for line in lines if " " in line)


def _genders(path):
    """Speaker -> "f" or "m"."""
    if not path.is_file():
        return {}
    rows = [line.split("|") for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith(";")]
    return {row[0].strip(): row[1].strip().lower() for row in rows if len(row) > 1}
