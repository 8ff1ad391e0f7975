"""Augmentation for sound: SpecAugment's masks (Park et al. 2019) and fades, in plain TensorFlow.

They do what ``tensorflow_io.audio``'s ``freq_mask``, ``time_mask`` and ``fade`` do, without that package (its compiled
part works with TensorFlow 2.16 and 2.17 only; `tfio_works` tells) and repeatably: the caller passes the seed.
"""

import warnings

import numpy as np
import tensorflow as tf


def _outside_band(x, axis, max_width, seed):
    """Booleans, False in one random band of 0 ... max_width places of `axis`, drawn anew for every example."""
    size = tf.shape(x)[axis]
    draw = tf.random.stateless_uniform(tf.concat([[2], tf.shape(x)[:-2]], 0), seed)
    width = tf.minimum(tf.floor(draw[0] * (max_width + 1)), tf.cast(size, tf.float32))
    start = tf.floor(draw[1] * (tf.cast(size, tf.float32) - width + 1))
    place, width, start = tf.range(tf.cast(size, tf.float32)), width[..., None], start[..., None]
    return (place < start) | (place >= start + width)


def freq_mask(spec, max_width, seed, value=0.0):
    """Overwrite one random band of frequencies: 0 to `max_width` neighbouring bins, another band for every example.

    Args:
        spec: (..., frames, bins), real.
        max_width: bins.
        seed: two integers, e.g. ``(seed, step)``: the same seed draws the same band, so a resumed run is repeatable.
        value: what is written into the band.

    Returns:
        float32, the shape of `spec`.

    Example:
        >>> freq_mask(tf.ones([4, 100, 257]), 20, seed=(0, 1)).shape.as_list()
        [4, 100, 257]
    """
    spec = tf.cast(spec, tf.float32)
    return tf.ensure_shape(tf.where(_outside_band(spec, -1, max_width, seed)[..., None, :], spec, value), spec.shape)


def time_mask(spec, max_width, seed, value=0.0):
    """Overwrite one random stretch of 0 to `max_width` frames; arguments as in `freq_mask`."""
    spec = tf.cast(spec, tf.float32)
    return tf.ensure_shape(tf.where(_outside_band(spec, -2, max_width, seed)[..., None], spec, value), spec.shape)


def fade(wav, fade_in=0, fade_out=0, mode="linear"):
    """Fade a signal in and out, which removes the click of a hard cut.

    Args:
        wav: (..., n).
        fade_in, fade_out: samples, <= n.
        mode: "linear", "exponential" (slow start, (e^x - 1) / (e - 1)) or "logarithmic" (fast start, log2(1 + x)).

    Returns:
        float32 (..., n).

    Example:
        >>> fade([1.0, 1.0, 1.0], fade_in=3).numpy().tolist()
        [0.0, 0.5, 1.0]
    """
    curves = {
        "linear": lambda x: x,
        "exponential": lambda x: np.expm1(x) / np.expm1(1),
        "logarithmic": lambda x: np.log2(1 + x),
    }
    if mode not in curves:
        raise ValueError(f"mode={mode!r}; expected one of {', '.join(curves)}.")
    wav = tf.cast(wav, tf.float32)
    rise = curves[mode](np.linspace(0, 1, fade_in)).astype(np.float32)
    fall = curves[mode](np.linspace(1, 0, fade_out)).astype(np.float32)
    n = tf.shape(wav)[-1]
    gain_in = tf.concat([rise, tf.ones([n - fade_in])], 0)
    gain_out = tf.concat([tf.ones([n - fade_out]), fall], 0)
    return wav * gain_in * gain_out


def tfio_works():
    """Does tensorflow-io work here?  Runs one of its compiled operations.

    Importing proves nothing: with TensorFlow 2.18 and later the import succeeds and every compiled operation fails.

    Returns:
        (bool, reason): the reason is one sentence.  Never raises.

    Example:
        >>> works, reason = tfio_works()
    """
    # a complete mono 16-bit WAV file of two samples
    header = b"RIFF\x28\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data\x04\0\0\0"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_io as tfio

            decoded = tfio.audio.decode_wav(header + b"\x01\0\x02\0", dtype=tf.int16)
        samples = decoded.numpy().ravel().tolist()
        if samples != [1, 2]:
            return False, f"tensorflow-io decoded a WAV of the samples [1, 2] to {samples}."
        return True, f"tensorflow-io {tfio.__version__} decodes a WAV."
    except ImportError as error:
        return False, f"tensorflow-io cannot be imported ({error}); ganse_tf does not need it."
    except Exception as error:  # a library that does not fit TensorFlow fails in many ways, all with the same meaning
        kind = type(error).__name__
        return False, f"tensorflow-io is installed but its operations fail under TensorFlow {tf.__version__} ({kind})."
