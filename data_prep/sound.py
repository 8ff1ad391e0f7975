"""Read one recording of any corpus: WAV, FLAC, NIST SPHERE (TIMIT, WSJ, RSR2015) or MATLAB (NOISEX-92), mono only.

NIST SPHERE is a 1024-byte text header and samples. libsndfile reads its PCM and mu-law kinds, but not `shorten`
compression, which WSJ uses: that is refused with the command that converts it. scipy cannot read SPHERE at all, and the
`.WAV` files of TIMIT are SPHERE in spite of their name.
"""

from pathlib import Path

import numpy as np

from data_prep.corpus import SAMPLE_RATE, PrepError
from ganse_tf import audio

RESAMPLER = "soxr HQ (ganse_tf.audio.resample)"
SPHERE_MAGIC = b"NIST_1A\n"
NOISEX_RATE = 19980  # Hz; MATLAB files of NOISEX-92 carry no rate


def sphere_header(path):
    """Fields of a NIST SPHERE header as a dict, or None when the file is something else.

    A header is lines of `name -type value`; types are -i (integer), -r (real) and -sN (string of N characters).
    """
    with open(path, "rb") as file:
        if file.read(len(SPHERE_MAGIC)) != SPHERE_MAGIC:
            return None
        size = file.readline().strip()
        if not size.isdigit():
            raise PrepError(f"{path} begins like NIST SPHERE, but its header size is {size!r}; the file is damaged.")
        text = file.read(int(size) - file.tell()).decode("latin-1")
    fields = {}
    for line in text.splitlines():
        if line.strip() == "end_head":
            return fields
        name, kind, value = (line.split(maxsplit=2) + ["", "", ""])[:3]
        if kind.startswith("-s"):
            fields[name] = value
        elif kind == "-i":
            fields[name] = int(value)
        elif kind == "-r":
            fields[name] = float(value)
    raise PrepError(f"{path} begins like NIST SPHERE, but its header has no end; the file is damaged.")


def read(path):
    """One mono recording as float32 and its own sample rate in Hz.

    Raises:
        PrepError: compressed SPHERE, more than one channel, 8-bit NOISEX, or not readable.
    """
    path = Path(path)
    if path.suffix.lower() == ".mat":
        return _read_mat(path)
    header = sphere_header(path)
    if header is not None and "shorten" in str(header.get("sample_coding", "")):
        raise PrepError(
            f"{path} is NIST SPHERE with shorten compression, which cannot be read here. Convert a copy first with the "
            f"LDC's program: sph2pipe -f wav {path.name} {path.stem}.wav"
        )
    if header is not None and "wavpack" in str(header.get("sample_coding", "")):
        raise PrepError(f"{path} is NIST SPHERE with wavpack compression; convert it to WAV first, for example with sox.")
    wav, rate = audio.read(path)
    if wav.ndim > 1:
        raise PrepError(
            f"{path} has {wav.shape[1]} channels, expected mono. Averaging microphones changes the noise, so this program "
            f"does not do it silently: extract one channel first (sox {path.name} mono.wav remix 1)."
        )
    return wav, rate


def read_at(path, sample_rate=SAMPLE_RATE):
    """One mono recording as float32, resampled once to `sample_rate` where needed."""
    wav, rate = read(path)
    return wav if rate == sample_rate else audio.resample(wav, rate, sample_rate)


def info(path):
    """(sample rate in Hz, number of samples) without decoding."""
    path = Path(path)
    if path.suffix.lower() == ".mat":
        wav, rate = _read_mat(path)
        return rate, len(wav)
    import soundfile

    facts = soundfile.info(path)
    return facts.samplerate, facts.frames


def _read_mat(path):
    """The one long vector of a MATLAB file as float32 at 19 980 Hz (integers are divided by 2**15)."""
    import scipy.io

    arrays = [v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__") and np.size(v) > 1]
    if len(arrays) != 1 or min(arrays[0].shape) != 1:
        raise PrepError(f"{path} holds {len(arrays)} arrays, expected one vector of samples.")
    wav = arrays[0].ravel()
    if wav.dtype == np.uint8:
        raise PrepError(f"{path} holds 8-bit samples; NOISEX-92 has 16 bits. Get the original 19.98 kHz files.")
    scale = audio.INT16_SCALE if wav.dtype.kind == "i" or np.abs(wav).max() > 1 else 1
    return (wav / scale).astype(np.float32), NOISEX_RATE
