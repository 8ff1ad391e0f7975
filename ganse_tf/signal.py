"""Signal processing in TensorFlow: everything the eleven papers do to sound before and after their networks.

    spec = signal.stft(noisy)                                   # (..., time) -> complex (..., frames, bins)
    enhanced = signal.istft(mask * spec, length=len(noisy))     # noisy phase kept; the exact inverse when mask = 1

Every function accepts any leading batch axes and lengths unknown until run time, works inside ``tf.function`` and
``tf.data``, and computes in float32 also under a mixed-precision policy (a float16 STFT would lose quiet speech).
Time comes before frequency everywhere: ``(batch, frames, bins)``.  The gammatone filterbank (`ganse_tf.gammatone`) and
the augmentations (`ganse_tf.augment`) have their own files and can be called from here too.
"""

import functools
import warnings

import numpy as np
import tensorflow as tf

from ganse_tf.augment import fade, freq_mask, tfio_works, time_mask  # noqa: F401  (re-exported)
from ganse_tf.gammatone import (  # noqa: F401  (re-exported)
    gammatone_analysis,
    gammatone_envelope,
    gammatone_filters,
    gammatone_synthesis,
)

_TINY = 1e-12  # below this magnitude a bin has no meaningful phase (float32 speech spectra live above 1e-7)


def _float32(x, name="wav"):
    """`x` as a float32 tensor; a complex tensor is refused because the cast would drop its imaginary part."""
    x = tf.convert_to_tensor(x)
    if x.dtype.is_complex:
        raise ValueError(f"{name} is complex ({x.dtype.name}); expected real numbers. Take its magnitude first.")
    return tf.cast(x, tf.float32)


def _size(x, axis):
    """Size of one axis: a Python int where known (XLA needs that), else a scalar tensor."""
    return x.shape[axis] if x.shape[axis] is not None else tf.shape(x)[axis]


def _between(low, x, high):
    """max(low, min(x, high)) for Python ints or scalar tensors."""
    known = isinstance(x, int) and isinstance(high, int)
    return max(low, min(x, high)) if known else tf.maximum(low, tf.minimum(x, high))


def _pad(x, before, after, axis=-1, mode="CONSTANT"):
    """tf.pad along one axis of a tensor of any rank."""
    paddings = [[0, 0]] * x.shape.rank
    paddings[axis] = [before, after]
    return tf.pad(x, paddings, mode=mode)


# ---- windows ---------------------------------------------------------------------------------------------------------


def window_samples(window, win_length):
    """The samples of an analysis window.

    A *periodic* window (for FFT frames: shifted copies add up to a constant) has one zero, a *symmetric* one (MATLAB's
    and `numpy.hamming`'s) two equal ends; papers rarely say which they mean.

    Args:
        window: ``"hann"``, ``"hamming"`` (both periodic), ``"hann_symmetric"``, ``"hamming_symmetric"``,
            ``"sqrt_hann"`` (twice applied it is a Hann window), ``"rect"``, or a 1-D array of `win_length` numbers.
        win_length: samples, >= 1.

    Returns:
        float64 NumPy array (win_length,).

    Raises:
        ValueError: unknown name, or an array of another length.

    Example:
        >>> window_samples("hann", 4).round(3).tolist()
        [0.0, 0.5, 1.0, 0.5]
    """
    if not isinstance(window, str):
        samples = np.asarray(window, np.float64)
        if samples.shape != (win_length,):
            raise ValueError(f"window has shape {samples.shape}; expected ({win_length},), one number per sample of "
                             "win_length. Pass another win_length or another window.")  # fmt: skip
        return samples
    name, symmetric = window.removesuffix("_symmetric"), window.endswith("_symmetric")
    angle = 2 * np.pi * np.arange(win_length) / max(win_length - symmetric, 1)
    hann = 0.5 - 0.5 * np.cos(angle) if win_length > 1 else np.ones(1)
    shapes = {"hann": hann, "hamming": 0.08 + 0.92 * hann, "sqrt_hann": np.sqrt(hann), "rect": np.ones(win_length)}
    if name not in shapes:
        raise ValueError(f"window={window!r} is not known; expected one of hann, hamming, hann_symmetric, "
                         "hamming_symmetric, sqrt_hann, rect, or a 1-D array.")  # fmt: skip
    return shapes[name]


@functools.lru_cache(maxsize=64)
def _named_window(window, n_fft, hop_length, win_length):
    return _checked_window(window, n_fft, hop_length, win_length)


def _checked_window(window, n_fft, hop_length, win_length):
    """The window centred in n_fft samples, after checking that shifted by whole hops it leaves no sample uncovered."""
    win_length = n_fft if win_length is None else win_length
    if not (n_fft >= win_length >= 1 and hop_length >= 1):
        raise ValueError(f"n_fft={n_fft}, win_length={win_length}, hop_length={hop_length}; expected n_fft >= "
                         "win_length >= 1 and hop_length >= 1 (samples), e.g. 512, 512, 256.")  # fmt: skip
    left = (n_fft - win_length) // 2  # librosa's choice for odd differences
    samples = np.pad(window_samples(window, win_length), (left, n_fft - win_length - left))
    power = np.pad(samples**2, (0, -n_fft % hop_length)).reshape(-1, hop_length).sum(0)
    if power.min() <= 1e-8 * power.max():
        name = window if isinstance(window, str) else "array"
        raise ValueError(f"window={name!r} with win_length={win_length} and hop_length={hop_length} leaves samples "
                         "that no frame sees, so the signal could not be put together again. Expected "
                         f"hop_length <= win_length // 2 = {win_length // 2} (or a rect window).")  # fmt: skip
    return samples.astype(np.float32)


def _stft_window(window, n_fft, hop_length, win_length):
    make = _named_window if isinstance(window, str) else _checked_window
    return make(window, n_fft, hop_length, win_length)


# ---- short-time Fourier transform ------------------------------------------------------------------------------------


def stft(wav, n_fft=512, hop_length=256, win_length=None, window="hann", pad_mode="reflect"):
    """Short-time Fourier transform; frame t is centred on sample t * hop_length.

    The signal is padded by n_fft/2 on both sides and on to whole hops, so that `istft` loses nothing:
    frames = 1 + ceil(n / hop_length).  The first 1 + n // hop_length frames equal ``librosa.stft(center=True)`` with
    the same `pad_mode` (librosa's own default is "constant").

    Args:
        wav: (..., n) samples.
        n_fft: FFT length in samples; gives n_fft // 2 + 1 bins.  512 (32 ms at 16 kHz) in most papers here.
        hop_length: samples between frames.
        win_length: window length <= n_fft, centred in the FFT frame; None means n_fft.
        window: see `window_samples`.
        pad_mode: "reflect" mirrors the signal at its ends (as far as a short signal reaches, then zeros); "constant"
            pads zeros.

    Returns:
        complex64 (..., frames, n_fft // 2 + 1).

    Raises:
        ValueError: a window and hop that leave samples unseen, or an unknown `pad_mode`.

    Example:
        >>> stft(tf.random.normal([2, 16000])).shape.as_list()
        [2, 64, 257]
    """
    if pad_mode not in ("reflect", "constant"):
        raise ValueError(f"pad_mode={pad_mode!r}; expected 'reflect' or 'constant'.")
    samples = _stft_window(window, n_fft, hop_length, win_length)
    wav = _float32(wav)
    n = _size(wav, -1)
    left, right = n_fft // 2, n_fft - n_fft // 2 + (-n) % hop_length
    if pad_mode == "reflect":
        mirrored_left, mirrored_right = _between(0, n - 1, left), _between(0, n - 1, right)
        wav = _pad(wav, mirrored_left, mirrored_right, mode="REFLECT")
        left, right = left - mirrored_left, right - mirrored_right
    frames = tf.signal.frame(_pad(wav, left, right), n_fft, hop_length)  # (..., frames, n_fft)
    return tf.signal.rfft(frames * samples)


def istft(spec, length=None, n_fft=512, hop_length=256, win_length=None, window="hann"):
    """Inverse of `stft`: windowed overlap-add divided by the summed squares of the window.

    wav[i] = sum_t w[i - tH] frame_t[i - tH] / sum_t w[i - tH]^2, the least-squares inverse of Griffin and Lim (1984):
    exact for a spectrogram that came from `stft`, the nearest signal for one that was changed.

    Args:
        spec: complex (..., frames, n_fft // 2 + 1).
        length: samples to return (an int or a scalar tensor); None returns the whole hops, (frames - 1) * hop_length.
        n_fft, hop_length, win_length, window: as given to `stft`.

    Returns:
        float32 (..., length).

    Raises:
        ValueError: the number of bins does not belong to n_fft.

    Example:
        >>> wav = tf.random.normal([1000])
        >>> bool(tf.reduce_max(tf.abs(istft(stft(wav), length=1000) - wav)) < 1e-5)
        True
    """
    spec = tf.cast(spec, tf.complex64)
    if spec.shape[-1] not in (None, n_fft // 2 + 1):
        raise ValueError(f"spec has {spec.shape[-1]} bins on its last axis; n_fft={n_fft} needs {n_fft // 2 + 1}. "
                         "Pass the n_fft given to stft, and keep the axes (..., frames, bins).")  # fmt: skip
    samples = _stft_window(window, n_fft, hop_length, win_length)
    n_frames = _size(spec, -2)
    length = (n_frames - 1) * hop_length if length is None else length
    frames = tf.signal.irfft(spec, [n_fft]) * samples
    power = tf.broadcast_to(samples**2, [n_frames, n_fft])
    begin = n_fft // 2
    wav = tf.signal.overlap_and_add(frames, hop_length)[..., begin : begin + length]
    weight = tf.signal.overlap_and_add(power, hop_length)[begin : begin + length]
    wav = tf.math.divide_no_nan(wav, weight)
    wav = _pad(wav, 0, length - tf.shape(wav)[-1])
    return tf.ensure_shape(wav, [*spec.shape[:-2], length if isinstance(length, int) else None])


def magnitude(spec, eps=0.0):
    """Magnitude of a complex spectrogram with a gradient that is finite at zero.

    Args:
        spec: complex (...).
        eps: 0 gives |X| (gradient 0 at X = 0); a positive value gives sqrt(|X|^2 + eps^2), smooth everywhere.

    Returns:
        float32, the shape of `spec`.

    Example:
        >>> float(magnitude(tf.constant(3 + 4j)))
        5.0
    """
    spec = tf.cast(spec, tf.complex64)
    if eps == 0:
        return tf.abs(spec)
    return tf.sqrt(tf.square(tf.math.real(spec)) + tf.square(tf.math.imag(spec)) + eps**2)


def polar(mag, phase):
    """Complex spectrogram from magnitude and phase (radians): mag * exp(j phase); complex64, shape of `mag`."""
    mag, phase = _float32(mag, "mag"), _float32(phase, "phase")
    return tf.complex(mag * tf.cos(phase), mag * tf.sin(phase))


def with_phase_of(mag, spec):
    """A new magnitude with the phase of another spectrogram: how most papers turn an enhanced magnitude into sound.

    Args:
        mag: real (..., frames, bins).
        spec: complex (..., frames, bins), the noisy spectrogram; a bin that is zero counts as phase 0.

    Returns:
        complex64, the shape of `spec`; never NaN, values and gradients.

    Example:
        >>> with_phase_of(tf.constant([2.0, 1.0]), tf.constant([0 + 3j, 0j])).numpy().tolist()
        [2j, (1+0j)]
    """
    spec = tf.cast(spec, tf.complex64)
    size = tf.abs(spec)
    audible = size > _TINY
    unit = spec / tf.cast(tf.where(audible, size, 1.0), tf.complex64)
    unit = tf.where(audible, unit, tf.ones_like(unit))
    mag = _float32(mag, "mag")
    return tf.complex(mag, tf.zeros_like(mag)) * unit  # tf.cast to complex would warn about its own gradient


# ---- emphasis --------------------------------------------------------------------------------------------------------


def preemphasis(wav, coef=0.95):
    """High-pass that flattens the spectrum of speech: y[n] = x[n] - coef * x[n-1], y[0] = x[0].

    Args:
        wav: (..., n).
        coef: in (-1, 1); 0.95 in SEGAN and MMSE-GAN, 0 switches it off.

    Returns:
        float32 (..., n).

    Example:
        >>> preemphasis([1.0, 1.0, 1.0], 0.5).numpy().tolist()
        [1.0, 0.5, 0.5]
    """
    wav = _float32(wav)
    return wav - coef * _pad(wav[..., :-1], 1, 0)[..., : _size(wav, -1)]


def deemphasis(wav, coef=0.95):
    """The exact inverse of `preemphasis`: y[n] = x[n] + coef * y[n-1].

    The recursion unrolls to y[n] = sum_k coef^k x[n-k].  Summing by doubling, s_2m[n] = s_m[n] + coef^m s_m[n-m], needs
    only log2 passes over the signal (11 for 0.95, until coef^m is zero in float32) instead of one step per sample.

    Args:
        wav: (..., n).
        coef: the value given to `preemphasis`.

    Returns:
        float32 (..., n).

    Raises:
        ValueError: |coef| >= 1, which would grow without bound.

    Example:
        >>> deemphasis([1.0, 0.5, 0.5], 0.5).numpy().tolist()
        [1.0, 1.0, 1.0]
    """
    if not abs(coef) < 1:
        raise ValueError(f"coef={coef}; expected a number between -1 and 1, e.g. 0.95.")
    wav = _float32(wav)
    n, lag, weight = _size(wav, -1), 1, float(coef)
    while abs(weight) > np.finfo(np.float32).tiny and not (isinstance(n, int) and lag >= n):
        wav += weight * _pad(wav, lag, 0)[..., :n]
        lag, weight = 2 * lag, weight**2
    return wav


# ---- frames and overlap-add ------------------------------------------------------------------------------------------


def frame(wav, frame_length, hop_length, pad_end=True):
    """Cut a signal into overlapping frames.

    Args:
        wav: (..., n).
        frame_length, hop_length: samples.
        pad_end: True pads zeros until every sample is in a frame (at least one frame); False drops the tail.

    Returns:
        float32 (..., frames, frame_length); frames = 1 + ceil((n - frame_length) / hop_length) with padding, floor
        instead of ceil without.

    Example:
        >>> frame([1.0, 2.0, 3.0], 2, 2).numpy().tolist()
        [[1.0, 2.0], [3.0, 0.0]]
    """
    if not (frame_length >= 1 and hop_length >= 1):
        raise ValueError(f"frame_length={frame_length}, hop_length={hop_length}; expected both >= 1 sample.")
    wav = _float32(wav)
    if pad_end:
        n = _size(wav, -1)
        hops = -((frame_length - n) // hop_length)  # ceil((n - frame_length) / hop_length)
        total = frame_length + _between(0, hops, hops) * hop_length
        wav = _pad(wav, 0, total - n)
    return tf.signal.frame(wav, frame_length, hop_length)


def overlap_add(frames, hop_length, length=None, window=None, normalise=True, windowed=False):
    """Put frames back together.

    With ``normalise`` each sample is divided by the summed weight of the frames that cover it, so overlapping
    predictions are *averaged* and unchanged frames give the signal back, edges included.

    Args:
        frames: (..., frames, frame_length).
        hop_length: samples.
        length: samples to return; None returns all.
        window: weight of each sample within a frame (name or array, see `window_samples`); None weighs all equally.
            "hann" cross-fades.
        normalise: False returns the plain sum.
        windowed: True when the frames were already multiplied by `window` at analysis: divides by the sum of w^2.

    Returns:
        float32 (..., length); samples that no frame covers are 0.

    Example:
        >>> overlap_add(frame([1.0, 2.0, 3.0], 2, 1), 1).numpy().tolist()
        [1.0, 2.0, 3.0]
    """
    frames = _float32(frames, "frames")
    frame_length = frames.shape[-1]
    weight = tf.constant(window_samples("rect" if window is None else window, frame_length), tf.float32)
    wav = tf.signal.overlap_and_add(frames * weight, hop_length)
    if normalise:
        total = tf.broadcast_to(weight**2 if windowed else weight, [_size(frames, -2), frame_length])
        wav = tf.math.divide_no_nan(wav, tf.signal.overlap_and_add(total, hop_length))
    if length is None:
        return wav
    wav = wav[..., :length]
    return _pad(wav, 0, length - _size(wav, -1))


def context(frames, left, right, pad="edge"):
    """Give every frame its neighbours: the input of frame-by-frame networks (DNN-GAN 2+2, MMSE-GAN 3+3).

    Args:
        frames: (..., T, F).
        left, right: neighbours on each side.
        pad: what lies beyond the ends: "edge" repeats the first/last frame, "zero", or "none" (only whole windows).

    Returns:
        float32 (..., T, left + 1 + right, F), T - left - right windows with pad="none".  Flatten the last two axes for
        the frame-major vector of the papers.

    Example:
        >>> context([[1.0], [2.0], [3.0]], 1, 1)[..., 0].numpy().tolist()
        [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 3.0]]
    """
    if pad not in ("edge", "zero", "none"):
        raise ValueError(f"pad={pad!r}; expected 'edge', 'zero' or 'none'.")
    frames = _float32(frames, "frames")
    if pad == "zero":
        frames = _pad(frames, left, right, axis=-2)
    elif pad == "edge":
        parts = [frames[..., :1, :]] * left + [frames] + [frames[..., -1:, :]] * right
        frames = tf.concat(parts, axis=-2)
    windows = _size(frames, -2) - left - right
    return tf.stack([frames[..., i : i + windows, :] for i in range(left + 1 + right)], axis=-2)


def average_context(windows, left, right, pad="edge"):
    """The inverse of `context`: every frame becomes the mean of all windows that contain it.

    DNN-GAN predicts five masks per window, so an inner frame has five predictions, the ends fewer; dividing by the true
    count (1, 2, 3, 4, 5, ..., 5, 4, 3, 2, 1 with pad="none") keeps a constant mask constant.

    Args:
        windows: (..., W, left + 1 + right, F).
        left, right, pad: as given to `context`.

    Returns:
        float32 (..., T, F) with T = W, or W + left + right with pad="none".

    Raises:
        ValueError: the context axis has another size than left + 1 + right.

    Example:
        >>> average_context(context([[1.0], [2.0], [3.0]], 1, 1), 1, 1)[:, 0].numpy().tolist()
        [1.0, 2.0, 3.0]
    """
    windows = _float32(windows, "windows")
    width = left + 1 + right
    if windows.shape[-2] != width:
        raise ValueError(f"windows has shape {windows.shape}; expected (..., W, {width}, F) for left={left}, "
                         f"right={right}. Reshape the network's output to (..., {width}, F) first.")  # fmt: skip
    n = _size(windows, -3)
    places = [_pad(windows[..., i, :], i, width - 1 - i, axis=-2) for i in range(width)]
    counts = tf.add_n([_pad(tf.ones([n, 1]), i, width - 1 - i, axis=-2) for i in range(width)])
    mean = tf.add_n(places) / counts
    return mean if pad == "none" else mean[..., left : left + n, :]


# ---- features --------------------------------------------------------------------------------------------------------


def log_power(spec, floor=1e-10):
    """Natural logarithm of the power, ln max(|X|^2, floor): the LPS feature of S-ForkGAN.

    Args:
        spec: complex spectrogram, or its magnitude (...).
        floor: smallest power; 1e-10 keeps digital silence finite.

    Returns:
        float32, the shape of `spec`.

    Example:
        >>> [round(float(x), 2) for x in log_power(tf.constant([1.0, 0.0]))]
        [0.0, -23.03]
    """
    spec = tf.convert_to_tensor(spec)
    mag = magnitude(spec) if spec.dtype.is_complex else _float32(spec)
    return tf.math.log(tf.maximum(tf.square(mag), floor))


def log1p_magnitude(spec):
    """ln(1 + |X|) of a complex spectrogram or a magnitude: MetricGAN's feature.  Undo with ``tf.math.expm1``."""
    spec = tf.convert_to_tensor(spec)
    return tf.math.log1p(magnitude(spec) if spec.dtype.is_complex else _float32(spec))


def _mel_points(n_mels, sample_rate, fmin, fmax):
    """Edges and centres (Hz) of n_mels triangles, equally spaced on the HTK mel scale 2595 log10(1 + f/700)."""
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin < fmax <= sample_rate / 2:
        raise ValueError(f"fmin={fmin}, fmax={fmax} Hz at sample_rate={sample_rate}; expected 0 <= fmin < fmax <= "
                         f"{sample_rate / 2:g} (half the sample rate).")  # fmt: skip
    low, high = 2595 * np.log10(1 + np.array([fmin, fmax]) / 700)
    return 700 * (10 ** (np.linspace(low, high, n_mels + 2) / 2595) - 1)


@functools.lru_cache(maxsize=32)
def mel_matrix(n_mels=128, n_fft=1024, sample_rate=16000, fmin=125.0, fmax=7500.0):
    """HTK mel filterbank with triangles of height 1: ``mel = mag @ mel_matrix(...)``.

    Equals ``librosa.filters.mel(..., htk=True, norm=None).T``.  The defaults are FSEGAN's.

    Args:
        n_mels: bands.
        n_fft: FFT length in samples.
        sample_rate: Hz.
        fmin, fmax: Hz, lower edge of the first and upper edge of the last band; fmax None means sample_rate / 2.

    Returns:
        float32 NumPy array (n_fft // 2 + 1, n_mels), read-only (it is cached).

    Raises:
        ValueError: an impossible frequency range.  Warns when a band falls between two bins and stays empty.

    Example:
        >>> mel_matrix(n_mels=40, n_fft=512).shape
        (257, 40)
    """
    points = _mel_points(n_mels, sample_rate, fmin, fmax)
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    rising = (bins[:, None] - points[None, :-2]) / np.diff(points)[:-1]
    falling = (points[None, 2:] - bins[:, None]) / np.diff(points)[1:]
    matrix = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    empty = int((matrix.sum(0) == 0).sum())
    if empty:
        warnings.warn(f"{empty} of {n_mels} mel bands contain no FFT bin (n_fft={n_fft}, {sample_rate} Hz) and stay at "
                      "the floor. Use a longer n_fft, fewer bands or a higher fmin.", stacklevel=2)  # fmt: skip
    matrix.setflags(write=False)
    return matrix


def log_mel(wav, sample_rate=16000, n_fft=1024, hop_length=160, win_length=512, n_mels=128, fmin=125.0, fmax=7500.0,
            floor=1e-6, power=1.0, window="hann", centred=False):  # fmt: skip
    """Log-mel spectrogram ln max(|STFT|^power @ mel, floor); the defaults are FSEGAN's (32 ms window, 10 ms hop).

    Args:
        wav: (..., n) at `sample_rate`.
        n_fft, hop_length, win_length, window: STFT in samples; see `stft`.
        n_mels, fmin, fmax: see `mel_matrix`.
        floor: smallest band value before the logarithm.
        power: 1 sums magnitudes (FSEGAN), 2 sums powers (AFM, most recognisers).
        centred: False cuts 1 + (n - win_length) // hop_length whole frames without padding, as recognisers do; True
            uses the padded `stft`.

    Returns:
        float32 (..., frames, n_mels).

    Example:
        >>> log_mel(tf.zeros([20832])).shape.as_list()
        [128, 128]
    """
    if centred:
        spec = stft(wav, n_fft, hop_length, win_length, window)
    else:
        frames = frame(wav, win_length, hop_length, pad_end=False)
        frames *= window_samples(window, win_length).astype(np.float32)
        spec = tf.signal.rfft(_pad(frames, 0, n_fft - win_length))  # padded here: rfft cannot pad 0 frames
    mag = magnitude(spec)
    mel = tf.tensordot(mag if power == 1 else mag**power, mel_matrix(n_mels, n_fft, sample_rate, fmin, fmax), 1)
    return tf.math.log(tf.maximum(mel, floor))


def mel_loudness(mag, n_mels=64, sample_rate=16000, exponent=0.2, floor=1e-5):
    """Mel-band energies at the same mean level for every utterance, compressed roughly like loudness.

    ``(energy / mean energy + floor) ** exponent``: about 1 where it is as loud as its mean; a factor on the utterance cancels.

    Args:
        mag: STFT magnitude (..., frames, bins).
        n_mels: bands from 0 Hz to half the sample rate.
        sample_rate: Hz.
        exponent: of the energy.
        floor: added to the relative energy, so that silence has a gradient; 1e-5 is -50 dB.

    Returns:
        float32 (..., frames, n_mels), at least ``floor ** exponent``.

    Example:
        >>> mel_loudness(tf.ones([3, 257])).shape.as_list()
        [3, 64]
    """
    mag = _float32(mag, "mag")
    energy = tf.square(mag) @ mel_matrix(n_mels, 2 * (mag.shape[-1] - 1), sample_rate, 0.0, None)
    mean = tf.reduce_mean(energy, axis=[-2, -1], keepdims=True)
    return tf.pow(energy / tf.maximum(mean, 1e-9) + floor, exponent)


def mel_gain_to_bins(gain, n_fft=1024, sample_rate=16000, fmin=125.0, fmax=7500.0):
    """Spread a gain per mel band over the FFT bins, so that a mel-domain mask can be heard.

    Linear interpolation over Hz between band centres, constant beyond the first and the last: a gain of 1 everywhere
    stays 1 everywhere, and no bin leaves the range of its neighbours (a pseudo-inverse would overshoot).

    Args:
        gain: (..., frames, n_mels).
        n_fft, sample_rate, fmin, fmax: as given to `mel_matrix`.

    Returns:
        float32 (..., frames, n_fft // 2 + 1).

    Example:
        >>> mel_gain_to_bins(tf.ones([3, 128])).shape.as_list()
        [3, 513]
    """
    gain = _float32(gain, "gain")
    n_mels = gain.shape[-1]
    centres = _mel_points(n_mels, sample_rate, fmin, fmax)[1:-1]
    bins = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    spread = np.stack([np.interp(bins, centres, one) for one in np.eye(n_mels)])  # (n_mels, bins), columns sum to 1
    return tf.tensordot(gain, tf.constant(spread, tf.float32), 1)


# ---- ideal masks: the targets of mask-based papers -------------------------------------------------------------------


def irm(clean_mag, noise_mag, beta=0.5):
    """Ideal ratio mask (S^2 / (S^2 + N^2))^beta, in [0, 1]; 0 where both are silent (DNN-GAN Table 3: beta = 0.5).

    Args:
        clean_mag, noise_mag: magnitudes of the parts of the mixture (...).
        beta: 0.5 is the square root of the Wiener gain, 1 the Wiener gain itself.

    Returns:
        float32 (...).

    Example:
        >>> irm([1.0, 0.0], [1.0, 0.0], beta=1.0).numpy().tolist()
        [0.5, 0.0]
    """
    clean, noise = tf.square(_float32(clean_mag)), tf.square(_float32(noise_mag))
    ratio = tf.math.divide_no_nan(clean, clean + noise)
    positive = ratio > 0
    return tf.where(positive, tf.where(positive, ratio, 1.0) ** beta, 0.0)  # inner where: finite gradient at 0


def smm(clean_mag, noisy_mag, clip=10.0):
    """Spectral magnitude mask min(|S| / |Y|, clip): times |Y| it gives |S| exactly below the clip (DNN-GAN: clip 10).

    Args:
        clean_mag, noisy_mag: magnitudes (...).
        clip: without it a few bins with |Y| near 0 dominate every loss.

    Returns:
        float32 (...) in [0, clip].

    Example:
        >>> smm([1.0, 2.0, 30.0, 0.0], [2.0, 1.0, 1.0, 4.0]).numpy().tolist()
        [0.5, 2.0, 10.0, 0.0]
    """
    return tf.minimum(_float32(clean_mag) / (_float32(noisy_mag) + 1e-8), clip)


def psm(clean_spec, noisy_spec, low=0.0, high=1.0):
    """Phase-sensitive mask Re(S / Y) = |S|/|Y| cos(phase difference), clipped to [low, high] (Erdogan et al. 2015).

    Args:
        clean_spec, noisy_spec: complex spectrograms (...).

    Returns:
        float32 (...); 0 where the noisy bin is silent.

    Example:
        >>> float(psm(tf.constant(1j), tf.constant(2j)))
        0.5
    """
    clean, noisy = tf.cast(clean_spec, tf.complex64), tf.cast(noisy_spec, tf.complex64)
    ratio = tf.math.divide_no_nan(tf.math.real(clean * tf.math.conj(noisy)), tf.square(tf.abs(noisy)))
    return tf.clip_by_value(ratio, low, high)
