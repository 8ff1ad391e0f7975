"""From sound files to training examples: pairs, mixing at an SNR, the toy corpus, and `tf.data`.

    from ganse_tf import data
    pairs = data.pairs("corpus")                     # corpus/noisy/*.wav with corpus/clean/*.wav, or a manifest.csv
    model.fit(data.examples(pairs, model, batch_size=16), epochs=10)

A *pair* is one noisy recording and the clean recording of the same length. A `Mixer` makes new pairs without end from
clean speech and noise. `examples` turns either into the batches a model trains on. Only `examples` needs TensorFlow,
and imports it when it is called.
"""

import hashlib
import math

import numpy as np

from ganse_tf import audio, noises
from ganse_tf.corpus import MANIFEST_COLUMNS, SAMPLE_RATE, Pair, Utterance, pairs, read_manifest, toy_corpus

__all__ = [
    "MANIFEST_COLUMNS", "Pair", "Utterance", "mix", "pairs", "read_manifest", "toy_corpus", "toy_pairs",
]  # fmt: skip
MAX_PEAK = 0.99  # mixtures that reach this are scaled down, clean and noisy alike


# ---- mixing ----------------------------------------------------------------------------------------------------------


def _generator(*key):
    """A random generator that depends only on the key: the same on every machine, in any order, in any process."""
    digest = hashlib.sha256("|".join(str(part) for part in key).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def mix(clean, noise, snr_db, *, name="", seed=0, part=(0.0, 1.0), details=False):
    """Add noise to clean speech at an exact signal-to-noise ratio.

    ``noisy = clean + g * noise`` with ``g = sqrt(sum(clean^2) / (sum(noise^2) * 10^(snr_db / 10)))``: power over the whole
    utterance. The stretch of noise is drawn at random, seeded by `name` and `seed`, and repeated when it is too short.
    If a sample would reach 0.99, clean and noisy are scaled down together, which leaves the SNR as it is.

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
        (noisy, clean), float32 (n,). With `details` also a dict of `gain` (of the noise, after scaling), `scale` (of the
        clean speech) and `noise_offset` (samples).

    Raises:
        AudioError: not one-dimensional, silent, NaN, or a `part` that holds no samples.

    Example:
        >>> noisy, clean = mix(speech, noises.make("pink", len(speech)), snr_db=5)  # doctest: +SKIP
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
    room = last - first - len(clean)
    offset = first + int(_generator(seed, name).integers(room + 1 if room > 0 else last - first))
    used = noise[first:last][np.arange(offset - first, offset - first + len(clean)) % (last - first)]
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
        return noisy, clean, {"gain": gain * scale, "scale": scale, "noise_offset": offset}
    return noisy, clean


def _mono(wav, name):
    wav = audio.validate(wav, SAMPLE_RATE, name=name)
    if wav.ndim > 1:
        raise audio.AudioError(f"{name} has {wav.shape[1]} channels; expected mono, shape (samples,). Take one: wav[:, 0].")
    return wav


def toy_pairs(split="test", n=None, snr_db=(0, 5, 10, 15), kinds=None, seed=0):
    """Noisy versions of the toy corpus, made on the spot: every utterance once.

    Kinds of noise and SNRs take turns, so that every combination is equally frequent; the order is shuffled, so that the
    first `n` are a fair sample. Each pair has noise of its own, never heard in another split. Babble consists of training
    speakers, without the one who is speaking.

    Args:
        split: "train", "valid", "test" or None.
        n: how many pairs; None means all.
        snr_db: SNRs in dB, a tuple or one number.
        kinds: of `noises.KINDS`; None means all seven.
        seed: whole number.

    Returns:
        list of Pair with float32 arrays.

    Example:
        >>> pairs = toy_pairs("train", n=8, kinds=("white",))
    """
    levels = (snr_db,) if np.isscalar(snr_db) else tuple(snr_db)
    kinds = tuple(noises.KINDS) if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    conditions = [(kind, level) for kind in kinds for level in levels]
    speech = toy_corpus(split)
    if n is not None and not 0 < n <= len(speech):
        raise ValueError(f"n is {n}; the toy corpus has {len(speech)} utterances in this split: choose 1 to {len(speech)}.")
    rng = _generator("toy_pairs", split, seed)
    order = rng.permutation(len(speech))[:n]
    turns = np.concatenate([rng.permutation(len(conditions)) for _ in range(-(-len(order) // len(conditions)))])
    found = []
    for i, turn in zip(order, turns):
        utterance, (kind, level) = speech[i], conditions[turn]
        noise_seed = int(_generator("toy_noise", utterance.name, kind, seed).integers(2**31))
        noise = noises.make(kind, len(utterance.wav), utterance.sample_rate, noise_seed, exclude=(utterance.speaker,))
        noisy, clean = mix(utterance.wav, noise, level, name=utterance.name, seed=seed)
        found.append(
            Pair(
                utterance.name, noisy, clean, utterance.sample_rate, utterance.speaker, utterance.text, kind, float(level),
                utterance.split, utterance.words,
            )
        )  # fmt: skip
    return found
