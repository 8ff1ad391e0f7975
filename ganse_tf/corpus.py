"""Recordings on disk and in the package: pairs of noisy and clean speech, manifests, the toy corpus (NumPy only).

A *pair* is one noisy recording and the clean recording of the same length; a *manifest* is a CSV file with one pair per
row. `ganse_tf.data` shows all public names of this file.
"""

import csv
import functools
import json
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ganse_tf import audio

SAMPLE_RATE = 16000  # Hz, of arrays that come without a rate: all eleven papers work at 16 kHz
MANIFEST_COLUMNS = ("name", "noisy", "clean", "sample_rate", "speaker", "text", "noise", "snr_db", "split", "seconds")
REQUIRED_COLUMNS = ("name", "noisy", "clean")
TOY = Path(__file__).parent / "toy"


# ---- pairs -----------------------------------------------------------------------------------------------------------


@dataclass
class Pair:
    """One noisy recording and its clean version: two paths or two float arrays, and what is known about them.

    Example:
        >>> pair = Pair("a", noisy=np.ones(16000), clean=np.zeros(16000), sample_rate=16000)
        >>> noisy, clean, sample_rate = pair.load()
        >>> noisy.shape, sample_rate
        ((16000,), 16000)
    """

    name: str
    noisy: object
    clean: object
    sample_rate: int | None = None  # Hz; None: the files' own rate, or 16 kHz for arrays
    speaker: str = ""
    text: str = ""
    noise: str = ""
    snr_db: float = math.nan
    split: str = ""
    words: tuple = ()  # ((word, start in s, end in s), ...)

    def load(self):
        """Read both sides; returns (noisy, clean, sample_rate), float32 mono of equal length.

        Raises:
            AudioError: a side is missing, empty, NaN, stereo, or the two differ in length or rate.
        """
        noisy, noisy_rate = load_mono(self.noisy, self.sample_rate, f"{self.name}: noisy")
        clean, clean_rate = load_mono(self.clean, self.sample_rate, f"{self.name}: clean")
        check_sides(self.name, len(noisy), noisy_rate, len(clean), clean_rate)
        return noisy, clean, clean_rate


@dataclass
class Utterance:
    """Clean speech with its transcript; `words` are ((word, start in s, end in s), ...), empty for sentences."""

    name: str
    wav: np.ndarray = field(repr=False)
    sample_rate: int
    speaker: str = ""
    text: str = ""
    words: tuple = ()
    split: str = ""
    gender: str = ""
    kind: str = ""


def pairs(source):
    """Collect pairs from a folder, a manifest or a list.

    Args:
        source: a folder with `noisy/` and `clean/` in it (also VoiceBank+DEMAND's `noisy_testset_wav/`,
            `clean_testset_wav/`), matched by file name without suffix; or a manifest CSV with at least the columns
            name, noisy, clean (paths relative to it); or a list of `(noisy, clean)`: file paths, float arrays, or the
            two folders.

    Returns:
        list of Pair, sorted by name (folder) or in the order given (manifest, list).

    Raises:
        AudioError: nothing there, names without a partner, wrong columns.

    Example:
        >>> len(pairs([(np.ones(16000), np.zeros(16000))]))
        1
    """
    if is_path(source):
        path = Path(source)
        if path.is_dir():
            return _folder_pairs(_side(path, "noisy"), _side(path, "clean"))
        if path.suffix.lower() == ".csv":
            return _manifest_pairs(path)
        if not path.exists():
            raise audio.AudioError(
                f"There is no '{path}'. Expected a folder with noisy/ and clean/ in it, or a manifest.csv."
            )
        raise audio.AudioError(f"'{path}' is one file; expected a folder with noisy/ and clean/, or a manifest.csv.")
    items = list(source)
    if not items:
        raise audio.AudioError("The list of pairs is empty; expected at least one (noisy, clean).")
    return [pair for i, item in enumerate(items) for pair in _as_pairs(item, i)]


def _as_pairs(item, i):
    if isinstance(item, Pair):
        return [item]
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise audio.AudioError(
            f"Item {i} of the list is {type(item).__name__}; expected a pair (noisy, clean) of two paths or two float "
            "arrays: pairs([(noisy, clean), ...])."
        )
    noisy, clean = item
    if is_path(noisy) and is_path(clean) and Path(noisy).is_dir() and Path(clean).is_dir():
        return _folder_pairs(Path(noisy), Path(clean))
    return [Pair(Path(clean).stem if is_path(clean) else f"pair_{i:05d}", noisy, clean)]


def is_path(side):
    """True for a path, False for an array."""
    return isinstance(side, (str, os.PathLike))


def _side(folder, side):
    """The sub-folder that holds one side: `noisy` itself or the only one whose name says noisy."""
    if (folder / side).is_dir():
        return folder / side
    found = sorted(p for p in folder.iterdir() if p.is_dir() and side in p.name.lower())
    if len(found) == 1:
        return found[0]
    there = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
    if not found:
        raise audio.AudioError(
            f"'{folder}' has no sub-folder {side}/. Expected {folder.name}/noisy and {folder.name}/clean with files of "
            f"the same names; found: {there}."
        )
    raise audio.AudioError(
        f"'{folder}' has {len(found)} sub-folders for '{side}': {', '.join(p.name for p in found)}. Move the two you "
        "mean into a folder of their own, named noisy/ and clean/."
    )


def audio_files(folder):
    """Relative path without suffix -> file, for every audio file below the folder."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in audio.AUDIO_SUFFIXES)
    return {p.relative_to(folder).with_suffix("").as_posix(): p for p in files}


def _folder_pairs(noisy_dir, clean_dir):
    noisy, clean = audio_files(noisy_dir), audio_files(clean_dir)
    if not noisy and not clean:
        raise audio.AudioError(f"'{noisy_dir}' and '{clean_dir}' hold no audio ({', '.join(audio.AUDIO_SUFFIXES)}).")
    lonely = [f"{noisy_dir.name}/{name}" for name in noisy if name not in clean]
    lonely += [f"{clean_dir.name}/{name}" for name in clean if name not in noisy]
    if lonely:
        some = ", ".join(sorted(lonely)[:5]) + (", ..." if len(lonely) > 5 else "")
        raise audio.AudioError(
            f"{len(lonely)} of {len(noisy) + len(clean)} files have no partner: {some}. Every noisy file needs a clean "
            f"file of the same name, and the reverse ('{noisy_dir}', '{clean_dir}')."
        )
    return [Pair(name, noisy[name], clean[name], speaker=_voicebank_speaker(name)) for name in sorted(noisy)]


def _voicebank_speaker(name):
    match = re.match(r"(p\d{3})_\d{3}", Path(name).name)
    return match.group(1) if match else ""


def read_manifest(path):
    """Rows of a manifest CSV as dicts of strings (UTF-8, one header line)."""
    path = Path(path)
    if not path.is_file():
        raise audio.AudioError(
            f"There is no manifest '{path}'. Make one with data_prep, or give a folder with noisy/ and clean/ in it."
        )
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise audio.AudioError(f"The manifest '{path}' has no rows; expected one line per utterance below the header.")
    return rows


_CLEAN_ONLY = " If it lists clean speech only, mix it with noise: data.Mixer takes this file as its speech."


def _manifest_pairs(path):
    rows = read_manifest(path)
    missing = [column for column in REQUIRED_COLUMNS if column not in rows[0]]
    if missing:
        hint = _CLEAN_ONLY if missing == ["noisy"] else " Rename the columns or make the manifest with data_prep."
        raise audio.AudioError(
            f"The manifest '{path}' has no column {', '.join(missing)}; expected at least {', '.join(REQUIRED_COLUMNS)}; "
            f"found {', '.join(column for column in rows[0] if column)}.{hint}"
        )
    found = []
    for line, row in enumerate(rows, start=2):
        if not (row["name"] and row["noisy"] and row["clean"]):
            lacking = [column for column in REQUIRED_COLUMNS if not row[column]]
            hint = _CLEAN_ONLY if lacking == ["noisy"] else " Fill it in or delete the line."
            raise audio.AudioError(f"Line {line} of '{path}' has no entry for {', '.join(lacking)}.{hint}")
        try:
            rate = int(row["sample_rate"]) if row.get("sample_rate") else None
            snr_db = float(row["snr_db"]) if row.get("snr_db") else math.nan
            words = tuple(tuple(word) for word in json.loads(row.get("words") or "[]"))
        except ValueError as error:
            raise audio.AudioError(f"Line {line} of '{path}' cannot be read ({error}): {row}.") from error
        known = {key: row.get(key) or "" for key in ("speaker", "text", "noise", "split")}
        sides = path.parent / row["noisy"], path.parent / row["clean"]
        found.append(Pair(row["name"], *sides, sample_rate=rate, snr_db=snr_db, words=words, **known))
    return found


def load_mono(side, sample_rate, name):
    """A path or array -> (float32 (n,), rate); refuses stereo and a file whose rate is not `sample_rate` (if given)."""
    if is_path(side):
        wav, rate = audio.read(side)
        if sample_rate is not None and rate != sample_rate:
            raise audio.AudioError(
                f"{name}: '{side}' has {rate} Hz, but the pair or manifest says {sample_rate} Hz. Correct one of them."
            )
    else:
        rate = sample_rate or SAMPLE_RATE
        wav = audio.validate(side, rate, name=name)
    if wav.ndim > 1:
        raise stereo(name, wav.shape[1])
    return wav, rate


def header(path):
    """(rate in Hz, samples) of a mono file, without decoding it where the format allows."""
    import soundfile

    path = Path(path)
    if not path.is_file() or path.suffix.lower() not in (".wav", ".flac"):
        wav, rate = load_mono(path, None, path.name)  # says what is wrong; lossy formats do not know their exact length
        return rate, len(wav)
    try:
        info = soundfile.info(path)
    except soundfile.SoundFileError:
        audio.read(path)  # explains it
        raise
    if info.channels > 1:
        raise stereo(f"'{path}'", info.channels)
    if info.frames == 0:
        audio.read(path)
    return info.samplerate, info.frames


def stereo(name, channels):
    """The error for a recording with several channels."""
    return audio.AudioError(
        f"{name} has {channels} channels; training data and pairs are mono. Choose one channel (wav[:, 0]) or average "
        "them (audio.read(path, mono=True)), for noisy and clean alike."
    )


def wrong_rate(name, rate, expected):
    """The error for training data at another rate."""
    return audio.AudioError(
        f"{name} has {rate} Hz; expected {expected} Hz. Training data is never resampled silently: convert it once, "
        f"noisy and clean alike, with data_prep or audio.resample(wav, {rate}, {expected}) and audio.write."
    )


def pack(wav):
    """float32 -> int16, exact for 16-bit files; kept as float32 when samples go beyond full scale."""
    scaled = np.rint(wav * audio.INT16_SCALE)
    return scaled.astype(np.int16) if -32768 <= scaled.min() and scaled.max() <= 32767 else wav


def unpack(wav):
    """The inverse of `pack`."""
    return wav.astype(np.float32) / audio.INT16_SCALE if wav.dtype == np.int16 else wav


def check_sides(name, noisy_length, noisy_rate, clean_length, clean_rate):
    if noisy_rate != clean_rate:
        raise audio.AudioError(
            f"{name}: noisy has {noisy_rate} Hz and clean {clean_rate} Hz; a pair needs one rate. Use audio.resample."
        )
    if noisy_length != clean_length:
        raise audio.AudioError(
            f"{name}: noisy has {noisy_length} samples and clean {clean_length}; a pair needs equal lengths, aligned "
            "in time. Check that the two files belong together, then cut the longer one."
        )


# ---- the toy corpus --------------------------------------------------------------------------------------------------


@functools.cache
def _toy():
    """Rows and int16 samples of the shipped corpus, decoded once."""
    import soundfile

    rows = read_manifest(TOY / "manifest.csv")
    return [(row, soundfile.read(TOY / row["clean"], dtype="int16")[0]) for row in rows]


def toy_corpus(split=None):
    """The synthetic speech that comes with the package: 16 speakers, digit strings and short sentences, 16 kHz.

    Args:
        split: "train" (10 speakers), "valid" (2), "test" (4) or None for all. Speakers and sentences are disjoint.

    Returns:
        list of Utterance; `wav` is float32. Digit strings carry exact word boundaries.

    Example:
        >>> [utterance.text for utterance in toy_corpus("test") if utterance.kind == "sentence"][0]
        'The postman left a parcel on the stairs.'
    """
    if split not in ("train", "valid", "test", None):
        raise ValueError(f"split is {split!r}; expected 'train', 'valid', 'test' or None (everything).")
    return [
        Utterance(
            row["name"], unpack(pcm), int(row["sample_rate"]), row["speaker"], row["text"],
            tuple(tuple(word) for word in json.loads(row["words"])), row["split"], row["gender"], row["kind"],
        )
        for row, pcm in _toy() if split in (None, row["split"])
    ]  # fmt: skip
