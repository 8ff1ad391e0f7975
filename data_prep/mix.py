"""What one worker does with one recording: convert it, over-smooth it, or mix it with noise at several SNRs.

The unit of work is an utterance. Its noise stretches are drawn from a generator seeded by (seed, name of the mixture), so
that neither the order nor the number of processes changes a byte. The arithmetic is `ganse_tf.data.mix`:

    noisy = clean + g noise,   g = sqrt(sum clean^2 / (sum noise^2 10^(SNR / 10)))

and if a peak would pass 0.99, clean and noisy are scaled down together. A mixture that needed no scaling shares the clean
file of its utterance; one that did has a clean file of its own. Every SNR is measured again on the samples as written.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from data_prep import rooms, sound
from data_prep.build import write_wav
from data_prep.corpus import SAMPLE_RATE, PrepError, Recording
from ganse_tf import data
from ganse_tf.mixing import generator
from ganse_tf.oversmooth import oversmooth

CONVERTED_BITS = 16  # as the corpora; VoiceBank+DEMAND is published and scored as 16-bit files
MIXTURE_BITS = 24
SNR_TOLERANCE_DB = 0.01
REDRAWS = 20  # places to try when one is digital silence
LENGTH_TOLERANCE = 1  # samples by which two resampled sides may differ


@dataclass(frozen=True)
class Convert:
    """One recording to bring to 16 kHz, mono, 16 bits."""

    recording: Recording

    @property
    def name(self):
        return self.recording.name


@dataclass(frozen=True)
class Stretch:
    """The part of one 16 kHz noise file that may be used: samples `first` to `last`."""

    kind: str
    path: str
    first: int
    last: int


@dataclass(frozen=True)
class Mixture:
    """One noisy version of an utterance; `stretch=None` is the clean condition."""

    name: str
    stretch: Stretch | None = None
    snr_db: float | None = None


@dataclass(frozen=True)
class Mix:
    """One utterance with all its mixtures; `reverberant` puts it into a random room of its own first."""

    recording: Recording
    mixtures: tuple
    seed: int = 0
    reverberant: bool = False

    @property
    def name(self):
        return self.recording.name


def facts(recording, n_samples, **more):
    """The columns that every row has."""
    return {
        "name": recording.name, "speaker": recording.speaker, "gender": recording.gender, "text": recording.text,
        "noise": recording.noise, "snr_db": "" if recording.snr_db is None else f"{recording.snr_db:g}",
        "split": recording.split, "part": recording.part, "sample_rate": SAMPLE_RATE, "n_samples": n_samples,
        "seconds": f"{n_samples / SAMPLE_RATE:.4f}", "words": json.dumps(recording.words) if recording.words else "", **more,
    }  # fmt: skip


def convert(job, folder):
    """Bring both sides of a recording to 16 kHz with one resampler; returns one row."""
    recording = job.recording
    sides = {side: sound.read_at(getattr(recording, side)) for side in ("noisy", "clean") if getattr(recording, side)}
    lengths = {len(wav) for wav in sides.values()}
    if max(lengths) - min(lengths) > LENGTH_TOLERANCE:
        raise PrepError(
            f"noisy has {len(sides['noisy'])} samples and clean {len(sides['clean'])} at {SAMPLE_RATE} Hz; the two do not "
            f"belong together."
        )
    row, clipped = facts(recording, min(lengths)), 0
    for side, wav in sides.items():
        place = "noise" if not recording.clean else side  # a noise alone
        path = f"{place}/{recording.name}.wav"
        row[side] = path
        row[f"sha256_{side}"], over = write_wav(folder / path, wav[: min(lengths)], SAMPLE_RATE, CONVERTED_BITS)
        clipped += over
    return [{**row, "clipped": clipped}]


def smooth(job, folder):
    """Natural speech as clean, its over-smoothed version as noisy; returns one row."""
    recording = replace(job.recording, noise="oversmoothed")
    clean = sound.read_at(recording.clean)
    noisy = oversmooth(clean)
    row = facts(recording, len(clean))
    for side, wav in (("clean", clean), ("noisy", noisy)):
        row[side] = f"{side}/{recording.name}.wav"
        row[f"sha256_{side}"], _ = write_wav(folder / row[side], wav, SAMPLE_RATE, CONVERTED_BITS)
    return [row]


def mix(job, folder):
    """All mixtures of one utterance; returns one row each."""
    recording = job.recording
    dry = sound.read_at(recording.clean)
    if not np.any(dry):
        raise PrepError(f"{recording.clean} is silent (all zeros); no SNR can be set.")
    shared = None  # (path, sha256) of the unscaled clean file, once it is needed
    rows = []
    for mixture in job.mixtures:
        row = facts(replace(recording, name=mixture.name), len(dry), seed=job.seed)
        if mixture.stretch is None:
            shared = shared or _write(folder, f"clean/{recording.name}.wav", dry)
            row |= {"noisy": shared[0], "clean": shared[0], "sha256_noisy": shared[1], "sha256_clean": shared[1]}
            rows.append(row)
            continue
        wet, t60 = _in_a_room(dry, job, mixture) if job.reverberant else (dry, "")
        noisy, wet, scale, offset = _add(wet, mixture, job.seed)
        path, sha256 = _write(folder, f"noisy/{mixture.name}.wav", noisy)
        if scale == 1:
            shared = shared or _write(folder, f"clean/{recording.name}.wav", dry)
            clean = shared
        else:
            clean = _write(folder, f"clean/{mixture.name}.wav", scale * dry)
        _check_snr(noisy, wet, mixture)
        row |= {
            "noisy": path, "sha256_noisy": sha256, "clean": clean[0], "sha256_clean": clean[1],
            "noise": mixture.stretch.kind, "snr_db": f"{mixture.snr_db:g}", "gain": f"{scale:.9g}", "noise_offset": offset,
            "room_t60": t60,
        }  # fmt: skip
        rows.append(row)
    return rows


def _write(folder, path, wav):
    """Write one mixture or its clean side; returns (path, SHA-256)."""
    sha256, clipped = write_wav(Path(folder) / path, wav, SAMPLE_RATE, MIXTURE_BITS)
    if clipped:
        raise PrepError(f"{path}: {clipped} samples lie outside [-1, 1].")
    return path, sha256


def _add(clean, mixture, seed):
    """(noisy, clean, scale, offset of the noise in its file), drawing again when the stretch is silent.

    Only the samples that are needed are read: decoding minutes of noise for every mixture would cost more than mixing.
    """
    import soundfile

    stretch = mixture.stretch
    if soundfile.info(stretch.path).samplerate != SAMPLE_RATE:
        raise PrepError(f"{stretch.path} does not have {SAMPLE_RATE} Hz; recipes mix at that rate.")
    room = stretch.last - stretch.first - len(clean)
    rng = generator("stretch", seed, mixture.name)
    for _ in range(REDRAWS):
        offset = stretch.first + (int(rng.integers(room + 1)) if room > 0 else 0)
        stop = min(offset + len(clean), stretch.last)
        noise, _ = soundfile.read(stretch.path, start=offset, stop=stop, dtype="float32")
        if np.any(noise):
            noisy, clean_out, what = data.mix(
                clean, noise, mixture.snr_db, name=mixture.name, seed=seed, details=True
            )  # repeats a noise that is too short, from a place drawn by `mix`
            return noisy, clean_out, what["scale"], offset + what["noise_offset"]
    raise PrepError(
        f"{stretch.path} is silent in {REDRAWS} places drawn from samples {stretch.first} to {stretch.last}; leave it out."
    )


def _check_snr(noisy, clean, mixture):
    """The promise of the manifest, measured on the samples as rounded for the file."""
    full = 2.0 ** (MIXTURE_BITS - 1)
    noisy, clean = (np.rint(np.asarray(wav, np.float64) * full) for wav in (noisy, clean))
    snr_db = 10 * np.log10(np.sum(clean**2) / max(np.sum((noisy - clean) ** 2), 1e-20))
    if abs(snr_db - mixture.snr_db) > SNR_TOLERANCE_DB:
        raise PrepError(
            f"{mixture.name} came out at {snr_db:.3f} dB instead of {mixture.snr_db:g} dB: the speech is too quiet for "
            f"{MIXTURE_BITS}-bit files."
        )


def _in_a_room(dry, job, mixture):
    """Speech with the reverberation of a room drawn for this mixture; returns (wav, T60 in s)."""
    from scipy.signal import fftconvolve

    rng = generator("room", job.seed, mixture.name)
    size, source, microphone, t60 = rooms.draw(rng)
    response = rooms.impulse_response(size, source, microphone, t60, SAMPLE_RATE)
    return fftconvolve(dry, response)[: len(dry)].astype(np.float32), f"{t60:.3f}"
