"""What every corpus module talks about: its card, its archives, its recordings, and the errors of `data_prep`.

A corpus module is plain: `CARD` (licence, citation, stand-in), `archives(parts)` (what we may download; empty when the
user must bring a copy) and `find(folder, parts)` (check the layout, return a list of `Recording`). Everything else,
from the download to the manifest, is shared: `download.py`, `unpack.py`, `build.py`, `prepare.py`.
"""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_RATE = 16000  # Hz, what all eleven papers but the post-filter use; the post-filter follows (papers: 16 kHz)


class PrepError(RuntimeError):
    """Something a person can fix; the message says what was found, what was expected and what to do."""


class LayoutError(PrepError):
    """A folder does not look like the corpus it should be."""


@dataclass(frozen=True)
class Archive:
    """One file to download.

    `size` (bytes), `md5` and `sha256` are the publisher's values as public code states them, or None and "" when no
    such value is known; `about` is a rounded size for the disk estimate only. `keep` names the members to unpack
    (regular expression on the path inside the archive, "" = all).
    """

    name: str
    urls: tuple
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    about: int = 0
    keep: str = ""

    @property
    def stem(self):
        return re.sub(r"\.(zip|tar|tar\.gz|tgz|tar\.bz2|parquet)$", "", self.name)

    @property
    def estimate(self):
        """Bytes to reckon with: exact, rounded, or 0 when nobody told us."""
        return self.size or self.about


@dataclass(frozen=True)
class Card:
    """Licence, citation and the way in. `automatic=False`: we never download it, the user points at a copy."""

    name: str
    title: str
    home: str
    licence: str
    citation: str
    automatic: bool = True
    must_accept: bool = False
    stand_in: str = ""
    layout: str = ""
    parts: tuple = ()
    default_parts: tuple = ()
    unpacked_ratio: float = 1.0  # bytes on disk per byte of archive, for the estimate

    def text(self):
        """The card as printed before anything else happens."""
        lines = [
            self.title,
            f"  home      {self.home}",
            f"  licence   {self.licence}",
            f"  cite      {self.citation}",
        ]
        if self.parts:
            lines.append(f"  parts     {', '.join(self.parts)} (default: {', '.join(self.default_parts)})")
        if not self.automatic:
            lines.append("  access    never downloaded here: point at your own copy with --source DIR")
            lines.append(f"  layout    {self.layout}")
        if self.stand_in:
            lines.append(f"  stand-in  {self.stand_in}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Recording:
    """One utterance or noise recording of a corpus, before anything is converted.

    `clean` and `noisy` are paths ("" when the corpus has only the other one: speech without noise, noise without
    speech); `part` is the corpus' own subset name; `split` is train, valid, test or "" (noise recordings).
    """

    name: str
    clean: str = ""
    noisy: str = ""
    speaker: str = ""
    gender: str = ""
    text: str = ""
    noise: str = ""
    snr_db: float | None = None
    split: str = ""
    part: str = ""
    words: tuple = field(default=())


def wavs(folder, suffixes=(".wav",)):
    """All audio files below `folder`, sorted, without the droppings of macOS archives."""
    return sorted(
        path
        for path in Path(folder).rglob("*")
        if path.suffix.lower() in suffixes
        and not path.name.startswith("._")
        and "__MACOSX" not in path.parts
        and path.is_file()
    )


def chosen_parts(card, parts):
    """The parts asked for (None = the default ones), checked against the card."""
    if parts is None:
        return tuple(card.default_parts)
    unknown = [part for part in parts if part not in card.parts]
    if unknown:
        raise PrepError(f"{card.name} has no part {', '.join(unknown)}. Choose from: {', '.join(card.parts)}.")
    return tuple(parts)


def rank(*key):
    """A number that depends only on the key: the same on every machine (Python's own `hash` is salted)."""
    return int.from_bytes(hashlib.sha256("|".join(str(part) for part in key).encode()).digest()[:8], "little")


def limited(recordings, limit):
    """At most `limit` recordings per split, dealt one speaker after the other so that few files are many voices."""
    if limit is None:
        return list(recordings)
    if limit < 1:
        raise PrepError(f"--limit is {limit}; it must be at least 1 (recordings per split).")
    turn, seen = {}, {}
    for recording in recordings:
        key = (recording.split, recording.speaker)
        seen[key] = seen.get(key, 0) + 1
        turn[recording.name] = seen[key]
    counts, chosen = {}, set()
    for recording in sorted(recordings, key=lambda r: (r.split, turn[r.name], r.speaker, r.name)):
        if counts.get(recording.split, 0) < limit:
            counts[recording.split] = counts.get(recording.split, 0) + 1
            chosen.add(recording.name)
    return [recording for recording in recordings if recording.name in chosen]
