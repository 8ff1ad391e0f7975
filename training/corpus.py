"""Real speech and noise for the released weights, mixed on the fly; who trains, who validates, who is never touched.

The folder holds ``speech/`` and ``noise/`` with 16 kHz FLAC files and ``manifests/dev.csv`` (path, corpus, speaker, dr_db).
Training speech: LibriSpeech train-clean-100 speakers with a quiet background (dr_db >= 33) and Picovoice barista commands.
Validation: LibriSpeech test-other speakers, and noise recordings that never occur in training.
"""

import csv
from pathlib import Path

from ganse_tf import data

QUIET_DB = 33.0  # dr_db = 95th minus 5th percentile of frame level; below this the "clean" target is itself noisy
VALID_NOISES = ("blanket/city", "esc10/sea_waves", "gui_project/farm", "speech_commands/running_tap")
MADE_NOISES = ("babble", "engine", "pink", "speech_shaped", "white", "wind")
LEVELS_DB = (-36.0, -18.0)  # of the clean speech
VALID_SNRS = (0.0, 5.0, 10.0, 15.0)
LICENCES = "LibriSpeech CC BY 4.0; Picovoice barista Apache-2.0; noises CC0, CC BY 3.0/4.0 or public domain"


def speech_files(folder):
    """(training, validation) speech paths."""
    with open(Path(folder) / "manifests" / "dev.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "speech"]
    train = [r for r in rows if r["corpus"] == "librispeech_train_clean_100" and float(r["dr_db"]) >= QUIET_DB]
    train += [r for r in rows if r["corpus"] == "picovoice_barista"]
    valid = [r for r in rows if r["corpus"] == "librispeech_test_other"]
    return [[str(Path(folder) / r["path"]) for r in part] for part in (train, valid)]


def noise_files(folder):
    """(training, validation) noise paths: whole recordings are held out for validation."""
    files = sorted((Path(folder) / "noise").rglob("*.flac"))
    held_out = [f for f in files if f"{f.parent.name}/{f.stem}" in VALID_NOISES]
    return [str(f) for f in files if f not in held_out], [str(f) for f in held_out]


def varied(paths):
    """Noise recordings, each one also faster and slower by a quarter, and kinds made by code.

    Networks on the waveform soon know 20 recordings by heart: the training error falls, that of validation rises again.
    """
    from ganse_tf import audio

    loaded = [audio.read(path) for path in paths]
    speeds = [audio.resample(wav, rate, round(rate * length)) for wav, rate in loaded for length in (0.8, 1.25)]
    return [*paths, *speeds, *MADE_NOISES]


def training_mixer(folder, seconds, length, seed, snr_db=(-5.0, 20.0), level_db=LEVELS_DB, vary=False):
    """Endless training pairs: every epoch new mixtures; `vary`: with the noises of `varied`, "colour": and random filters."""
    noise = noise_files(folder)[0]
    return data.Mixer(speech_files(folder)[0], varied(noise) if vary else noise, snr_db=snr_db, seconds=seconds,
                      level_db=level_db, length=length, seed=seed, colour=vary == "colour")  # fmt: skip


def oversmoothed_pairs(folder):
    """(Over-smoothed, natural) pairs of the LibriSpeech training utterances, for the post-filter."""
    from ganse_tf import audio, oversmooth

    paths = [path for path in speech_files(folder)[0] if "librispeech" in path]
    waves = [(Path(path).stem, *audio.read(path)) for path in paths]
    return oversmooth.pairs(data.Utterance(name, wav, rate, name.split("-")[0], "", (), "train") for name, wav, rate in waves)


def validation_pairs(folder, n=24, seconds=4.0, seed=7):
    """`n` fixed pairs of validation speakers and noises at 0, 5, 10 and 15 dB."""
    from ganse_tf import audio

    speech, noise = speech_files(folder)[1], noise_files(folder)[1]
    pairs = []
    for i in range(n):
        path = speech[(i * 13 + 1) % len(speech)]  # 13 and 80 have no common divisor: speakers take turns
        clean, rate = audio.read(path)
        snr = VALID_SNRS[i % len(VALID_SNRS)]
        name = f"{Path(path).stem}_{i:02d}"
        kind = noise[i // 4 % len(noise)]
        noisy, clean = data.mix(clean[: int(seconds * rate)], audio.read(kind)[0], snr, name=name, seed=seed)
        pairs.append(data.Pair(name, noisy, clean, rate, noise=kind, snr_db=snr, split="valid"))
    return pairs
