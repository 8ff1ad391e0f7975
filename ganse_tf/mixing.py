"""Noisy speech made on the spot: mixing at an exact SNR, toy pairs, and an endless mixer (NumPy only).

`ganse_tf.data` shows all public names of this file.
"""

import hashlib
import math
import os
from pathlib import Path

import numpy as np
import scipy.signal

from ganse_tf import audio, noises
from ganse_tf.corpus import (
    SAMPLE_RATE,
    Pair,
    Utterance,
    audio_files,
    header,
    load_mono,
    pack,
    read_manifest,
    toy_corpus,
    unpack,
    wrong_rate,
)

MAX_PEAK = 0.99  # mixtures that reach this are scaled down, clean and noisy alike
SILENT_DB = -70.0  # dBFS; a stretch of speech below this is a pause, and Mixer takes another
TRIES = 20  # stretches of noise that Mixer looks at before it gives up on finding one that sounds


# ---- one mixture -----------------------------------------------------------------------------------------------------


def generator(*key):
    """A random generator that depends only on the key: the same on every machine, in any order, in any process."""
    digest = hashlib.sha256("|".join(str(part) for part in key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def mix(clean, noise, snr_db, *, name="", seed=0, part=(0.0, 1.0), details=False):
    """Add noise to clean speech at an exact signal-to-noise ratio.

    ``noisy = clean + g * noise`` with ``g = sqrt(sum(clean^2) / (sum(noise^2) * 10^(snr_db / 10)))``: power over the
    whole utterance. The stretch of noise is drawn at random, seeded by `name` and `seed`, and repeated when it is too
    short. If a sample would reach 0.99, clean and noisy are scaled down together, which leaves the SNR as it is.

    Args:
        clean: float (n,), full scale 1.
        noise: float (m,), any level.
        snr_db: dB; papers use -5 to 20.
        name: of the utterance; another name draws another stretch.
        seed: whole number.
        part: share of the noise that may be used, from 0 to 1: (0, 0.8) for training and (0.8, 1) for testing never
            overlap.
        details: return what was done, too (for a manifest).

    Returns:
        (noisy, clean), float32 (n,). With `details` also a dict of `gain` (of the noise, after scaling), `scale` (of
        the clean speech) and `noise_offset` (samples).

    Raises:
        AudioError: not one-dimensional, silent, NaN, or a `part` that holds no samples.

    Example:
        >>> speech = toy_corpus("test")[0].wav
        >>> noisy, clean = mix(speech, noises.make("pink", 160000), snr_db=5, name="a", part=(0.8, 1))
        >>> print(f"{10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2)):.2f} dB")
        5.00 dB
    """
    clean = np.asarray(_mono(clean, "clean"), np.float64)
    noise = np.asarray(_mono(noise, "noise"), np.float64)
    if not np.isfinite(snr_db):
        raise audio.AudioError(f"snr_db is {snr_db}; expected a number in dB, for example 5.")
    if not 0 <= part[0] < part[1] <= 1:
        raise audio.AudioError(f"part is {part}; expected two shares 0 <= start < end <= 1, for example (0, 0.8).")
    first, last = round(part[0] * len(noise)), round(part[1] * len(noise))
    if first == last:
        raise audio.AudioError(f"part={part} of a noise of {len(noise)} samples holds no sample; give a longer noise.")
    used, offset = noises.stretch(noise[first:last], len(clean), generator(seed, name))
    clean_power, noise_power = np.mean(clean**2), np.mean(used**2)
    for power, what in ((clean_power, "clean"), (noise_power, "noise")):
        if power == 0:
            raise audio.AudioError(
                f"{name or 'mix'}: the {what} signal is silent (all zeros), so no SNR can be set. Leave it out."
            )
    gain = math.sqrt(clean_power / noise_power) * 10 ** (-snr_db / 20)
    noisy = clean + gain * used
    scale = min(1.0, MAX_PEAK / max(np.abs(noisy).max(), np.abs(clean).max()))
    noisy, clean = (scale * noisy).astype(np.float32), (scale * clean).astype(np.float32)
    if details:
        return noisy, clean, {"gain": gain * scale, "scale": scale, "noise_offset": first + offset}
    return noisy, clean


def _mono(wav, name):
    wav = audio.validate(wav, SAMPLE_RATE, name=name)
    if wav.ndim > 1:
        raise audio.AudioError(
            f"{name} has {wav.shape[1]} channels; expected mono, shape (samples,). Take one: wav[:, 0]."
        )
    return wav


def toy_pairs(split="test", n=None, snr_db=(0, 5, 10, 15), kinds=None, seed=0):
    """Noisy versions of the toy corpus, made on the spot: every utterance once.

    Kinds of noise and SNRs take turns, so that every combination is equally frequent; the order is shuffled, so that
    the first `n` are a fair sample. Each pair has noise of its own, never heard in another split. Babble consists of
    training speakers, without the one who is speaking.

    Args:
        split: "train", "valid", "test" or None.
        n: how many pairs; None means all.
        snr_db: SNRs in dB, a tuple or one number.
        kinds: of `noises.KINDS`; None means all seven.
        seed: whole number.

    Returns:
        list of Pair with float32 arrays.

    Example:
        >>> [pair.noise for pair in toy_pairs("train", n=3, kinds="white")]
        ['white', 'white', 'white']
    """
    levels = (snr_db,) if np.isscalar(snr_db) else tuple(snr_db)
    kinds = tuple(noises.KINDS) if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    conditions = [(kind, level) for kind in kinds for level in levels]
    speech = toy_corpus(split)
    if n is not None and not 0 < n <= len(speech):
        raise ValueError(f"n is {n}; choose 1 to {len(speech)}, the utterances in this split of the toy corpus.")
    rng = generator("toy_pairs", split, seed)
    order = rng.permutation(len(speech))[:n]
    turns = np.concatenate([rng.permutation(len(conditions)) for _ in range(-(-len(order) // len(conditions)))])
    found = []
    for i, turn in zip(order, turns):
        utterance, (kind, level) = speech[i], conditions[turn]
        noise_seed = int(generator("toy_noise", utterance.name, kind, seed).integers(2**31))
        noise = noises.make(kind, len(utterance.wav), utterance.sample_rate, noise_seed, exclude=(utterance.speaker,))
        noisy, clean = mix(utterance.wav, noise, level, name=utterance.name, seed=seed)
        found.append(
            Pair(
                utterance.name, noisy, clean, utterance.sample_rate, utterance.speaker, utterance.text, kind,
                float(level), utterance.split, utterance.words,
            )
        )  # fmt: skip
    return found


# ---- endless mixing --------------------------------------------------------------------------------------------------


class Mixer:
    """Makes new noisy pairs from clean speech and noise, as many as training asks for.

    Every pair depends only on `(seed, epoch, i)`, never on the order of the calls. Every utterance is heard equally
    often. Files are decoded once and stay in memory as 16-bit integers.

    Args:
        speech: clean speech: a folder, a manifest (its `clean` column), or a list of paths, float arrays, Utterances.
        noise: a folder, a list of paths or float arrays, or names of `noises.KINDS` (made afresh for every pair); also
            a single one of these. A list may mix them.
        snr_db: (lowest, highest), drawn uniformly, or one number.
        seconds: length of a pair: a random stretch; a shorter utterance is padded with zeros at its end before the
            noise is added. None keeps whole utterances.
        level_db: RMS level of the clean speech in dBFS: (lowest, highest) or one number. None leaves it as recorded.
        length: pairs per epoch; None means as many as utterances.
        seed: whole number.
        snr_choices: a tuple of SNRs to choose from instead of the range, as most papers do: (0, 5, 10, 15).
        part: share of each noise recording that may be used, as in `mix`.
        sample_rate: Hz, of everything; files at another rate are refused.
        colour: True filters speech and noise, each by a random gentle filter, as if microphones and rooms changed: few
            recordings go further (`random_colour`).

    Raises:
        AudioError: a source is empty or missing, or a file has another rate.

    Example:
        >>> mixer = Mixer(toy_corpus("train"), ["babble", "wind"], snr_db=(-5, 15), seconds=2.0)
        >>> noisy, clean, sample_rate = mixer[0].load()
        >>> clean.shape, mixer.at(epoch=5, i=0).snr_db != mixer[0].snr_db
        ((32000,), True)
    """

    def __init__(
        self, speech, noise, snr_db=(-5, 15), seconds=None, level_db=None, length=None, seed=0, *, snr_choices=None,
        part=(0.0, 1.0), sample_rate=SAMPLE_RATE, colour=False,
    ):  # fmt: skip
        self.colour = colour
        self.snr_db = _range(snr_db, "snr_db")
        self.level_db = None if level_db is None else _range(level_db, "level_db")
        self.snr_choices = None if snr_choices is None else tuple(float(level) for level in snr_choices)
        if not 0 <= part[0] < part[1] <= 1:
            raise audio.AudioError(f"part is {part}; expected two shares 0 <= start < end <= 1, for example (0, 0.8).")
        if seconds is not None and not seconds * sample_rate >= 1:
            raise audio.AudioError(f"seconds is {seconds}; expected a length above 0, for example 2.0, or None.")
        self.seed, self.part, self.sample_rate = seed, part, sample_rate
        self.samples = None if seconds is None else round(seconds * sample_rate)
        self._speech = [
            _Recording(item, sample_rate, f"speech_{i:05d}") for i, item in enumerate(_items(speech, "speech"))
        ]
        self._noise = [
            item if _is_kind(item) else _Recording(item, sample_rate, f"noise_{i:05d}")
            for i, item in enumerate(_items(noise, "noise"))
        ]
        self.length = len(self._speech) if length is None else int(length)
        if self.length < 1:
            raise audio.AudioError(f"length is {length}; expected at least 1 pair per epoch.")

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        if not -self.length <= i < self.length:
            raise IndexError(f"Pair {i} of a Mixer with length={self.length}; mixer.at(epoch, i) knows no end.")
        return self.at(0, i % self.length)

    def at(self, epoch, i):
        """Pair `i` of an epoch; every epoch has other mixtures. Returns a Pair with float32 arrays."""
        turn, place = divmod(i, len(self._speech))
        speech = self._speech[generator(self.seed, "order", epoch, turn).permutation(len(self._speech))[place]]
        rng = generator(self.seed, epoch, i)
        clean = self._crop(speech.wav(), rng)
        if self.colour:
            clean = random_colour(clean, rng)
        if self.level_db is not None:
            rms_db = 10 * np.log10(max(np.mean(np.square(clean, dtype=np.float64)), 1e-20))
            clean = clean * np.float32(10 ** ((rng.uniform(*self.level_db) - rms_db) / 20))
        snr_db = float(rng.choice(self.snr_choices) if self.snr_choices else rng.uniform(*self.snr_db))
        for _ in range(TRIES):
            noise = self._noise[rng.integers(len(self._noise))]
            if _is_kind(noise):
                used = noises.make(noise, len(clean), self.sample_rate, int(rng.integers(2**31)), (speech.speaker,))
            else:
                wav = noise.wav()
                wav = wav[round(self.part[0] * len(wav)) : round(self.part[1] * len(wav))]
                used = noises.stretch(wav, len(clean), rng)[0]
            if used.any():
                break
        if self.colour:
            used = random_colour(used, rng)
        noisy, clean = mix(clean, used, snr_db, name=speech.name)
        text, words = (speech.text, speech.words) if self.samples is None else ("", ())
        kind = noise if _is_kind(noise) else noise.name
        name = f"{speech.name}_{epoch}_{i}"
        return Pair(name, noisy, clean, self.sample_rate, speech.speaker, text, kind, snr_db, words=words)

    def lengths(self):
        """Samples of every pair of an epoch, in no particular order; None when they differ from epoch to epoch."""
        if self.samples is not None:
            return [self.samples] * self.length
        rounds, rest = divmod(self.length, len(self._speech))
        return None if rest else [speech.n_samples for speech in self._speech] * rounds

    def longest(self):
        """Samples of the longest pair."""
        return self.samples or max(speech.n_samples for speech in self._speech)

    def _crop(self, wav, rng):
        """A random stretch of `samples`, padded if need be; a stretch that is all pause moves to the loudest sample."""
        if self.samples is None:
            return wav
        room = len(wav) - self.samples
        if room <= 0:
            return np.pad(wav, (0, -room))
        start = int(rng.integers(room + 1))
        if np.mean(np.square(wav[start : start + self.samples])) < 10 ** (SILENT_DB / 10):
            start = min(max(int(np.abs(wav).argmax()) - self.samples // 2, 0), room)
        return wav[start : start + self.samples]


def random_colour(wav, rng):
    """`wav` (n,) through a random filter of second order, (1 + a z^-1 + b z^-2) / (1 + c z^-1 + d z^-2) with all four
    coefficients between -3/8 and 3/8: stable, at most 17 dB up or down. float32 (n,)."""
    a, b, c, d = rng.uniform(-3 / 8, 3 / 8, 4)
    return scipy.signal.lfilter([1.0, a, b], [1.0, c, d], wav).astype(np.float32)


def _range(value, name):
    """(low, high) from a pair or one number."""
    low, high = (value, value) if np.isscalar(value) else tuple(value)
    if not low <= high:
        raise audio.AudioError(f"{name} is {value}; expected (lowest, highest) in dB, such as (-5, 15), or one number.")
    return float(low), float(high)


def _is_kind(item):
    return isinstance(item, str) and item in noises.KINDS


def _items(source, what):
    """The recordings a source stands for: one array, kind, file, folder, manifest, or a list of these."""
    if isinstance(source, (str, os.PathLike)) and not _is_kind(source):
        path = Path(source)
        if path.is_dir():
            found = list(audio_files(path).values())
            if not found:
                suffixes = ", ".join(audio.AUDIO_SUFFIXES)
                raise audio.AudioError(f"The {what} folder '{path}' and its sub-folders hold no audio ({suffixes}).")
            return found
        if path.suffix.lower() == ".csv":
            rows = read_manifest(path)
            if not rows[0].get("clean"):
                raise audio.AudioError(f"The manifest '{path}' has no column clean with paths of recordings.")
            return list(dict.fromkeys(path.parent / row["clean"] for row in rows))
        if not path.exists():
            kinds = f", or built-in noises ({', '.join(noises.KINDS)})" if what == "noise" else ""
            raise audio.AudioError(f"There is no {what} '{path}'; expected a folder, a file, a list of them{kinds}.")
    if isinstance(source, (str, os.PathLike, Utterance)) or getattr(source, "ndim", 0) == 1:
        return [source]
    found = []
    for item in source:
        found += _items(item, what)
    if not found:
        raise audio.AudioError(f"The list of {what} is empty; expected at least one path or float array.")
    return found


class _Recording:
    """A path, array or Utterance; decoded at first use, kept as int16 when that loses nothing worth keeping."""

    def __init__(self, source, sample_rate, name):
        self.speaker, self.text, self.words, self.packed = "", "", (), None
        self.name, self.path, self.sample_rate = name, None, sample_rate
        if isinstance(source, Utterance):
            self.name, self.speaker, self.text, self.words = source.name, source.speaker, source.text, source.words
            if source.sample_rate != sample_rate:
                raise wrong_rate(f"utterance {source.name}", source.sample_rate, sample_rate)
            source = source.wav
        if isinstance(source, (str, os.PathLike)):
            self.name, self.path = Path(source).stem, source
            rate, self.n_samples = header(source)
            if rate != sample_rate:
                raise wrong_rate(f"'{source}'", rate, sample_rate)
        else:
            self.packed = _mono(source, name)
            self.n_samples = len(self.packed)

    def wav(self):
        """float32 samples."""
        if self.packed is None:
            self.packed = pack(load_mono(self.path, self.sample_rate, self.name)[0])
        return unpack(self.packed)
