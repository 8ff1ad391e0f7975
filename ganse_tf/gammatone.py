"""The gammatone filterbank of MMSE-GAN: split speech as the ear does, weigh the bands, and put them together again.

64 fourth-order gammatone filters, equally spaced on the ERB scale (2.05 per ERB, one of them exactly at 1500 Hz), as
finite impulse responses of 800 samples (Hohmann 2002; used by Soni, Shah and Patil, ICASSP 2018).  Filtering each band
once more with its time-reversed response undoes the phase; because the summed power response is flat within 0.03 dB
between 100 and 7000 Hz, the sum of all bands is the input again up to a constant gain.
"""

import functools
import math

import numpy as np
import tensorflow as tf

ERB_WIDTH, ERB_Q = 24.7, 9.265  # erb(f) = Q ln(1 + f / (L Q)), Hohmann 2002
ORDER = 4
FRAME_LENGTH, HOP_LENGTH = 320, 160  # 20 ms Hamming window, 10 ms hop at 16 kHz (MMSE-GAN, section 4)
SYNTHESIS_GAIN = 0.48659  # undoes the +6.26 dB of analysis and synthesis (least-squares fit on speech)
ENVELOPE_FLOOR = 1e-8  # digital silence has no logarithm


@functools.lru_cache(maxsize=8)
def gammatone_filters(sample_rate=16000, fmin=50.0, fbase=1500.0, fmax=None, filters_per_erb=2.05, taps=800):
    """Centre frequencies and impulse responses of the filterbank.

    H(z) = 2 (1 - |a|)^4 / (1 - a z^-1)^4 with a = exp(-2 pi b / fs + j 2 pi f / fs); the real part of its first `taps`
    samples.  b follows from the ERB of the ear at f.

    Args:
        sample_rate: Hz.
        fmin, fmax: Hz, range of centre frequencies; fmax None means sample_rate / 2.
        fbase: Hz, a frequency that gets a filter exactly.
        filters_per_erb: density.
        taps: samples; 800 = 50 ms.

    Returns:
        (centres, responses): read-only float64 NumPy arrays (channels,) in Hz and (channels, taps); 64 channels with
        the defaults.

    Raises:
        ValueError: unless 0 <= fmin <= fbase <= fmax <= sample_rate / 2.

    Example:
        >>> centres, responses = gammatone_filters()
        >>> responses.shape, round(float(centres[34]), 1)
        ((64, 800), 1500.0)
    """
    fmax = sample_rate / 2 if fmax is None else fmax
    if not 0 <= fmin <= fbase <= fmax <= sample_rate / 2:
        raise ValueError(f"fmin={fmin}, fbase={fbase}, fmax={fmax} Hz at sample_rate={sample_rate}; expected "
                         f"0 <= fmin <= fbase <= fmax <= {sample_rate / 2:g}.")  # fmt: skip

    def erb(f):
        return ERB_Q * np.log1p(f / (ERB_WIDTH * ERB_Q))

    below = math.floor((erb(fbase) - erb(fmin)) * filters_per_erb)
    above = math.floor((erb(fmax) - erb(fbase)) * filters_per_erb)
    places = erb(fbase) + np.arange(-below, above + 1) / filters_per_erb
    centres = np.expm1(places / ERB_Q) * ERB_WIDTH * ERB_Q

    factorial = math.factorial
    shape = math.pi * factorial(2 * ORDER - 2) * 2.0 ** -(2 * ORDER - 2) / factorial(ORDER - 1) ** 2  # 0.98174770
    bandwidth = (ERB_WIDTH + centres / ERB_Q) / shape
    decay = np.exp(-2 * np.pi * bandwidth / sample_rate)[:, None]
    n = np.arange(taps)
    ways = (n + 1) * (n + 2) * (n + 3) / 6  # coefficients of 1 / (1 - x)^4
    responses = 2 * (1 - decay) ** ORDER * ways * decay**n * np.cos(2 * np.pi * centres[:, None] * n / sample_rate)
    centres.setflags(write=False)
    responses.setflags(write=False)
    return centres, responses


def _transform(x, responses):
    """Spectra of (..., n) signals and of the filters, long enough that the circular convolution does not wrap."""
    n, taps = tf.shape(x)[-1], responses.shape[-1]
    # a power of two is cheap for every FFT library; log2 in float64 is exact enough for any length in memory
    needed = tf.cast(n + taps - 1, tf.float64)
    size = tf.cast(2 ** tf.math.ceil(tf.math.log(needed) / math.log(2.0) - 1e-9), tf.int32)
    return tf.signal.rfft(x, [size]), tf.signal.rfft(tf.constant(responses, tf.float32), [size]), size


def gammatone_analysis(wav, **filters):
    """Split a signal into gammatone bands: x_k = the 'same' part of x * h_k, samples taps/2 ... taps/2 + n - 1.

    The bands run 400 samples (25 ms) ahead of a causal filterbank.  The high bands answer faster than that, so what
    they would say about the first 25 ms is cut off: put ``taps // 2`` zeros in front of `wav` where the beginning counts.

    Args:
        wav: (..., n), usually pre-emphasised; needs about 2 kB of memory per sample with 64 channels.
        **filters: as for `gammatone_filters`.

    Returns:
        float32 (..., channels, n).

    Example:
        >>> gammatone_analysis(tf.zeros([16000])).shape.as_list()
        [64, 16000]
    """
    wav = tf.cast(wav, tf.float32)
    responses = gammatone_filters(**filters)[1]
    spectrum, filters_spectrum, size = _transform(wav, responses)
    bands = tf.signal.irfft(spectrum[..., None, :] * filters_spectrum, size[None])
    start = responses.shape[-1] // 2
    bands = bands[..., start : start + tf.shape(wav)[-1]]
    return tf.ensure_shape(bands, [*wav.shape[:-1], responses.shape[0], wav.shape[-1]])


def gammatone_envelope(bands, frame_length=FRAME_LENGTH, hop_length=HOP_LENGTH):
    """Windowed RMS of every band and frame: E[t, k] = sqrt(mean over the frame of (w[n] x_k[n])^2), w = Hamming.

    Args:
        bands: (..., channels, n) from `gammatone_analysis`.
        frame_length, hop_length: samples; 320 and 160 in the paper.  Nothing is padded and the tail is dropped:
            frames = 1 + (n - frame_length) // hop_length.

    Returns:
        float32 (..., frames, channels), an amplitude, never below 1e-8; ``tf.math.log`` of it is the paper's feature.

    Example:
        >>> gammatone_envelope(tf.zeros([64, 16000])).shape.as_list()
        [99, 64]
    """
    bands = tf.cast(bands, tf.float32)
    weight = tf.constant(np.hamming(frame_length) ** 2 / frame_length, tf.float32)  # symmetric, as MATLAB's
    power = tf.linalg.matvec(tf.signal.frame(tf.square(bands), frame_length, hop_length), weight)  # (..., channels, T)
    envelope = tf.sqrt(tf.maximum(power, ENVELOPE_FLOOR**2))  # the maximum also keeps the gradient finite in silence
    axes = tf.range(tf.rank(envelope))
    return tf.transpose(envelope, tf.concat([axes[:-2], axes[-1:], axes[-2:-1]], 0))


def gammatone_synthesis(bands, mask=None, frame_length=FRAME_LENGTH, hop_length=HOP_LENGTH, **filters):
    """Weigh the bands frame by frame, filter each with its time-reversed response and add them up.

    Windowing frames twice, multiplying frame t of band k by mask[t, k] and dividing the overlap-add by sum w^2 is the
    same as multiplying the band by the smooth gain sum_t mask[t, k] w^2 / sum_t w^2; that is how it is computed here.
    The authors divide by nothing (4.8 dB of ripple at 100 Hz) and compensate one sample of advance and +6.26 dB of gain
    by hand; this function corrects all three.

    Args:
        bands: (..., channels, n) of the noisy signal: its phase is kept.
        mask: (..., frames, channels) with the frames of `gammatone_envelope`; None stands for all ones.  Samples after
            the last frame take the gain of the last frame.
        frame_length, hop_length: as given to `gammatone_envelope`.
        **filters: as for `gammatone_filters`.

    Returns:
        float32 (..., n), aligned with the input of `gammatone_analysis`; still pre-emphasised if that was.

    Raises:
        ValueError: the mask has another number of channels than the bands.

    Example:
        >>> gammatone_synthesis(tf.zeros([64, 16000]), tf.ones([99, 64])).shape.as_list()
        [16000]
    """
    bands = tf.cast(bands, tf.float32)
    n = tf.shape(bands)[-1]
    if mask is not None:
        mask = tf.cast(mask, tf.float32)
        if None not in (mask.shape[-1], bands.shape[-2]) and mask.shape[-1] != bands.shape[-2]:
            raise ValueError(f"mask has {mask.shape[-1]} channels on its last axis, the bands have {bands.shape[-2]}; "
                             "expected mask (..., frames, channels) and bands (..., channels, n).")  # fmt: skip
        bands *= _smooth_gain(tf.linalg.matrix_transpose(mask), n, frame_length, hop_length)
    responses = gammatone_filters(**filters)[1][:, ::-1]
    spectrum, filters_spectrum, size = _transform(bands, responses)
    wav = tf.signal.irfft(tf.reduce_sum(spectrum * filters_spectrum, -2), size[None])
    # analysis advanced by taps/2 = 400 samples, the two filters together delay by taps - 1 = 799: 399 are left
    start = responses.shape[-1] - 1 - responses.shape[-1] // 2
    wav = SYNTHESIS_GAIN * wav[..., start : start + n]
    return tf.ensure_shape(wav, [*bands.shape[:-2], bands.shape[-1]])


def _smooth_gain(mask, n, frame_length, hop_length):
    """(..., channels, frames) -> (..., channels, n): overlap-add of mask * w^2 over overlap-add of w^2."""
    weight = tf.constant(np.hamming(frame_length) ** 2, tf.float32)
    gain = tf.signal.overlap_and_add(mask[..., None] * weight, hop_length)
    gain /= tf.signal.overlap_and_add(tf.ones_like(mask)[..., None] * weight, hop_length)
    gain = gain[..., :n]
    tail = tf.repeat(mask[..., -1:], n - tf.shape(gain)[-1], axis=-1)
    return tf.concat([gain, tail], -1)
