"""The door for sound: read, write, resample and check waveforms (NumPy; soundfile and soxr are imported when used).

A waveform is a float array in [-1, 1] of shape (samples,) or (samples, channels), and it always travels with its sample
rate in Hz. Every function here refuses what would go wrong later, with a sentence that says what was received, what is
expected and how to fix it.
"""

import difflib
import os
import pathlib
import warnings

import numpy as np

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
INT16_SCALE = 32768  # 2**15: PCM16 stores round(wav * 32768)
MAX_CHANNELS = 8  # a second axis longer than this and longer than the first is time, not channels
MAX_PEAK = 1000.0  # 60 dB above full scale: int16 numbers stored as floats
_LOSSY = {".ogg": "VORBIS", ".mp3": "MPEG_LAYER_III"}  # formats that know only one coding


class AudioError(ValueError):
    """Sound that cannot be used; the message says what was received, what is expected and how to fix it."""


def read(path, sample_rate=None, mono=False, strict=False):
    """Read a WAV, FLAC, OGG or MP3 file as float32.

    Args:
        path: file to read.
        sample_rate: rate wanted, in Hz; a file with another rate is resampled. None keeps the file's own rate.
        mono: average the channels of a file that has several.
        strict: refuse a file whose rate is not `sample_rate` instead of resampling it. Training data is read this way,
            so that nobody trains on resampled sound without knowing it.

    Returns:
        `(wav, sample_rate)`: float32 (samples,) or (samples, channels), full scale = 1, and its rate in Hz (int).

    Raises:
        AudioError: the file is missing, a folder, not audio, empty, contains NaN or inf, or (strict) has another rate.

    Example:
        >>> wav, sample_rate = read("speech.flac", sample_rate=16000, mono=True)  # doctest: +SKIP
    """
    path = _path(path)
    if sample_rate is not None:
        sample_rate = check_rate(sample_rate)
    if path.is_dir():
        raise AudioError(f"'{path}' is a folder; expected one file ({', '.join(AUDIO_SUFFIXES)}). Name a file in it.")
    if not path.exists():
        raise AudioError(f"There is no file '{path}'. {_nearest(path)}")
    if path.stat().st_size == 0:
        raise AudioError(f"'{path}' is empty (0 bytes); expected audio. Copy or download it again.")
    import soundfile

    try:
        wav, file_rate = soundfile.read(path, dtype="float32")
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"'{path}' cannot be read as audio ({error}). Expected WAV, FLAC, OGG or MP3. "
            "Open it in a player; convert other formats first, for example: ffmpeg -i IN OUT.wav"
        ) from error
    if mono and wav.ndim > 1:
        wav = wav.mean(axis=1, dtype=np.float32)
    wav = validate(wav, file_rate, name=f"'{path}'")
    if sample_rate is None or sample_rate == file_rate:
        return wav, int(file_rate)
    if strict:
        raise AudioError(
            f"'{path}' has {file_rate} Hz; expected {sample_rate} Hz, and this reader never resamples by itself. "
            f"Convert the data once, noisy and clean alike: data_prep/mix.py does it for a corpus, or write "
            f"audio.resample(wav, {file_rate}, {sample_rate}) with audio.write."
        )
    return resample(wav, file_rate, sample_rate), sample_rate


def write(path, wav, sample_rate, subtype="PCM_16"):
    """Write a waveform as WAV, FLAC, OGG or MP3, chosen by the suffix of the path.

    16-bit files hold round(32768 wav): samples outside [-1, 1] are clipped (never wrapped), counted and warned about.

    Args:
        path: file to write; missing folders are made.
        wav: float array (samples,) or (samples, channels), full scale = 1.
        sample_rate: Hz.
        subtype: "PCM_16" or "FLOAT" (WAV only: 32-bit float, nothing is clipped). OGG and MP3 know one coding only.

    Raises:
        AudioError: unknown suffix or subtype, or a `wav` that `validate` refuses.

    Example:
        >>> write("tone.wav", 0.5 * np.sin(np.arange(16000) / 6), 16000)  # doctest: +SKIP
    """
    path = _path(path)
    suffix = path.suffix.lower()
    if suffix not in AUDIO_SUFFIXES:
        expected = ", ".join(AUDIO_SUFFIXES)
        raise AudioError(f"Cannot write '{path}': its suffix is '{path.suffix}'; expected one of {expected}.")
    if subtype not in ("PCM_16", "FLOAT"):
        raise AudioError(f"subtype is {subtype!r}; expected 'PCM_16' (16-bit) or 'FLOAT' (32-bit float, WAV only).")
    if subtype == "FLOAT" and suffix != ".wav":
        raise AudioError(f"Cannot write '{path}' with subtype 'FLOAT': only WAV holds floats. Use '{path.stem}.wav'.")
    sample_rate = check_rate(sample_rate)
    wav = validate(wav, sample_rate)
    if subtype != "FLOAT":
        over = int(np.count_nonzero(np.abs(wav) > 1))
        if over:
            peak = float(np.abs(wav).max())
            warnings.warn(
                f"{over} of {wav.size} samples lie outside [-1, 1] (peak {peak:.2f}) and were clipped in '{path}'. "
                f"Multiply the waveform by {0.99 / peak:.2f} first, or write WAV with subtype='FLOAT'.",
                stacklevel=2,
            )
        wav = np.clip(wav, -1, 1)
        if suffix not in _LOSSY:  # libsndfile 1.2.2 garbles stereo MP3 written from integers, so lossy files get floats
            wav = np.minimum(np.rint(wav * INT16_SCALE), INT16_SCALE - 1).astype(np.int16)
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        soundfile.write(path, wav, sample_rate, subtype=_LOSSY.get(suffix, subtype))
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"'{path}' could not be written at {sample_rate} Hz with {1 if wav.ndim == 1 else wav.shape[1]} channel(s) "
            f"({error}). Write a .wav file, which holds every rate."
        ) from error


def resample(wav, orig_rate, target_rate):
    """Resample with soxr (high quality, linear phase, no delay).

    Noisy and clean files must go through one and the same resampler: different anti-alias filters move PESQ and SSNR.

    Args:
        wav: float array (samples,) or (samples, channels).
        orig_rate: rate of `wav` in Hz.
        target_rate: rate wanted in Hz.

    Returns:
        float32, exactly round(samples * target_rate / orig_rate) samples long, same channels.

    Raises:
        AudioError: a `wav` or rate that `validate` refuses.

    Example:
        >>> resample(np.zeros(44100), 44100, 16000).shape
        (16000,)
    """
    orig_rate, target_rate = check_rate(orig_rate, "orig_rate"), check_rate(target_rate, "target_rate")
    wav = validate(wav, orig_rate)
    if orig_rate == target_rate:
        return wav.copy()
    n_samples = round(len(wav) * target_rate / orig_rate)
    import soxr

    out = soxr.resample(wav, orig_rate, target_rate)[:n_samples]
    missing = n_samples - len(out)  # soxr rounds the length the same way; this keeps the promise if a version does not
    return np.pad(out, [(0, missing)] + [(0, 0)] * (wav.ndim - 1)) if missing else out


def validate(wav, sample_rate, name="wav"):
    """Check a waveform and return it as float32.

    Args:
        wav: array or list of floats, shape (samples,) or (samples, channels), full scale = 1.
        sample_rate: Hz, a whole number > 0.
        name: what the error message calls it.

    Returns:
        float32 array of the same shape (the same array if it was float32 already).

    Raises:
        AudioError: integer, complex, object or text dtype; 0 or more than 2 dimensions; channels first; empty; NaN or
            inf; numbers far above full scale; a rate that is not a whole number > 0.

    Example:
        >>> validate([0.0, 0.5], 16000).dtype
        dtype('float32')
    """
    check_rate(sample_rate)
    wav = check_shape(wav, name)
    problem = content_problem(wav)
    if problem == "no samples":
        raise AudioError(f"{name} is empty (0 samples); expected at least one. Check how it was cut or recorded.")
    if problem:
        finite = np.isfinite(wav)
        first = np.argwhere(~finite)[0]
        raise AudioError(
            f"{name} contains NaN or inf: {wav.size - np.count_nonzero(finite)} of {wav.size} values, the first at "
            "index "
            f"{first[0] if wav.ndim == 1 else tuple(int(i) for i in first)}. Find the step that made them (a division "
            "by a silent signal, a diverged model); np.nan_to_num(wav) only hides them."
        )
    peak = float(np.abs(wav).max())
    if peak > MAX_PEAK:
        raise AudioError(
            f"{name} has a peak of {peak:.0f}; expected floats with full scale 1. These look like 16-bit integers "
            f"stored as floats: divide by {INT16_SCALE}."
        )
    return wav.astype(np.float32, copy=False)


def check_rate(sample_rate, name="sample_rate"):
    """Return a sample rate as int, or raise AudioError when it is not a whole number of Hz > 0."""
    numeric = isinstance(sample_rate, (int, float, np.integer, np.floating)) and not isinstance(sample_rate, bool)
    if not numeric or not np.isfinite(sample_rate) or sample_rate <= 0 or sample_rate != int(sample_rate):
        raise AudioError(f"{name} is {sample_rate!r}; expected a whole number of Hz above 0, for example 16000.")
    return int(sample_rate)


def check_shape(wav, name="wav"):
    """Return `wav` as a float array (samples,) or (samples, channels), or raise AudioError; the values are not "
    "looked at."""
    try:
        wav = np.asarray(wav)
    except (ValueError, TypeError) as error:  # ragged lists
        raise AudioError(f"{name} cannot be made an array ({error}); expected a NumPy array of floats.") from error
    if wav.dtype.kind in "iu" and wav.size:
        scale = f"divide by {np.iinfo(wav.dtype).max + 1}: {name}.astype('float32') / {np.iinfo(wav.dtype).max + 1}"
        if wav.dtype.kind == "u":
            scale = f"{name} = ({name}.astype('float32') - 128) / 128 for 8-bit files, or read them with audio.read"
        elif wav.dtype.itemsize > 2:  # a list of ints, or int16 values widened by arithmetic
            scale = f"convert to float; 16-bit values: {name}.astype('float32') / {INT16_SCALE}"
        raise AudioError(f"{name} has dtype {wav.dtype}; expected floats with full scale 1. Fix: {scale}.")
    if wav.dtype.kind != "f" and wav.size:
        raise AudioError(f"{name} has dtype {wav.dtype}; expected real floats (float32). {_dtype_hint(wav.dtype.kind)}")
    if wav.ndim not in (1, 2):
        raise AudioError(
            f"{name} has shape {wav.shape} ({wav.ndim} dimensions); expected (samples,) or (samples, channels). "
            "Pass one waveform at a time: wav[0] of a batch, np.squeeze(wav) for axes of length 1."
        )
    if wav.ndim == 2 and wav.shape[1] > max(wav.shape[0], MAX_CHANNELS):
        raise AudioError(
            f"{name} has shape {wav.shape}, which looks like channels (or a batch) first; expected (samples, "
            f"channels). Transpose it ({name}.T) or take one row ({name}[0])."
        )
    return wav if wav.dtype.kind == "f" else wav.astype(np.float32)


def content_problem(wav):
    """What makes the values of a float array useless: "no samples", "NaN or inf", or None."""
    if wav.size == 0:
        return "no samples"
    return None if np.isfinite(wav).all() else "NaN or inf"


def _dtype_hint(kind):
    """How to get floats out of an array of another kind."""
    return {
        "c": "A spectrum? Go back to the waveform with istft (or take .real of a complex waveform).",
        "b": "A mask? Multiply the waveform by it.",
        "O": "Lists of different lengths or mixed values? Pass one waveform at a time.",
        "U": "A path? Read it first: wav, sample_rate = audio.read(path).",
        "S": "Bytes? Read the file with audio.read(path).",
    }.get(kind, "Convert it with np.asarray(wav, dtype='float32').")


def _path(path):
    """A pathlib.Path, or AudioError for what cannot be one."""
    if not isinstance(path, (str, os.PathLike)):
        raise AudioError(f"path is {type(path).__name__}; expected a file name (str or pathlib.Path).")
    return pathlib.Path(path).expanduser()


def _nearest(path):
    """A hint where a missing file may be."""
    if not path.parent.is_dir():
        return f"Its folder '{path.parent}' does not exist either; the current folder is '{pathlib.Path.cwd()}'."
    close = difflib.get_close_matches(path.name, os.listdir(path.parent), n=1)
    return f"Did you mean '{close[0]}'?" if close else f"Look into its folder '{path.parent}' for the right name."
