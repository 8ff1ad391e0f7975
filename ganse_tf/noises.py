"""Noise made by code: seven kinds, repeatable, free of licences (NumPy and SciPy only).

    from ganse_tf import noises
    noise = noises.make("babble", 3 * 16000, seed=7)

Every kind depends only on `(kind, n_samples, sample_rate, seed)`, has no DC and an RMS of 1: `ganse_tf.data.mix` scales
it. They are models of noise, good for teaching and for training on the toy corpus; they do not replace recorded noise.
"""

import functools
import operator
import zlib

import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal

KINDS = ("white", "pink", "speech_shaped", "babble", "engine", "clicks", "wind")
SAMPLE_RATE = 16000  # Hz

# Long-term average spectrum of the toy corpus' training speakers: Hz, dB re its maximum (measured in the tests).
_SPEECH_HZ = (62.5, 125, 200, 250, 315, 400, 500, 630, 800, 1000, 1250, 1600, 2000, 2500, 3150, 4000, 5000, 6300, 7500)
_SPEECH_DB = (-15.5, -8.2, -0.6, -1.9, -2.9, -0.2, -1.4, -2.4, -3.6, -6.3, -7.5, -12.3, -16.1, -16.0, -18.2, -19.3,
              -21.4, -26.7, -28.6)  # fmt: skip
PINK_LOW = 20.0  # Hz; pink noise is flat below, so that its power does not depend on its length
BABBLE_TALKERS = 6
ENGINE_HZ = (22.0, 48.0)  # ignition frequency: a four-cylinder engine at 660-1440 rpm
ENGINE_HARMONICS = 32
ENGINE_BROADBAND_DB = -10.0  # rumble and hiss relative to the harmonics
CLICKS_PER_SECOND = 12.0
CLICK_HZ = (1200.0, 2100.0, 3400.0)  # resonances a click rings at; it decays by 60 dB in CLICK_DECAY
CLICK_DECAY = 0.06  # s
WIND_HZ = 150.0  # Hz, corner of the low-pass
GUST_SECONDS = 1.5  # s, time over which the wind changes
GUST_DB = 6.0  # dB, standard deviation of the gusts
WANDER_STEPS = 50  # straight lines that make up one change of a slow random curve


def make(kind, n_samples, sample_rate=SAMPLE_RATE, seed=0, exclude=()):
    """Make one noise signal.

    | kind | what it is |
    |---|---|
    | white | equal power per Hz: as much energy from 4 to 8 kHz as from 0 to 4 kHz |
    | pink | -3 dB per octave: equal power per octave |
    | speech_shaped | stationary noise with the long-term spectrum of the toy corpus |
    | babble | six training speakers of the toy corpus talking at once |
    | engine | harmonics of a wandering engine speed plus rumble |
    | clicks | a Poisson train of impulses, twelve per second, each ringing for 60 ms |
    | wind | low-passed noise in slow gusts |

    Args:
        kind: one of `KINDS`.
        n_samples: length, at least 2.
        sample_rate: Hz.
        seed: whole number >= 0; another seed is another recording of the same kind.
        exclude: names of toy-corpus speakers who must not be heard in the babble.

    Returns:
        float32 (n_samples,), mean 0, RMS 1.

    Raises:
        ValueError: unknown kind, fewer than 2 samples, a rate or seed that makes no sense.

    Example:
        >>> make("pink", 16000, seed=1).shape
        (16000,)
    """
    if kind not in KINDS:
        raise ValueError(f"Unknown noise {kind!r}. The kinds are: {', '.join(KINDS)}.")
    try:
        n_samples, seed = operator.index(n_samples), operator.index(seed)
    except TypeError:
        raise ValueError(
            f"n_samples={n_samples!r}, seed={seed!r}: both must be whole numbers, such as int(seconds * sample_rate)."
        ) from None
    if n_samples < 2:
        raise ValueError(f"n_samples is {n_samples}; a noise needs at least 2 samples (one second is {sample_rate}).")
    if not sample_rate > 0:
        raise ValueError(f"sample_rate is {sample_rate}; it must be a rate in Hz above 0, for example {SAMPLE_RATE}.")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must be >= 0.")
    rng = np.random.default_rng([zlib.crc32(kind.encode()), seed])
    if kind == "babble":
        noise = _babble(n_samples, sample_rate, rng, tuple(exclude))
    else:
        noise = globals()[f"_{kind}"](n_samples, float(sample_rate), rng)
    noise = noise - noise.mean()
    return (noise / np.sqrt(np.mean(noise**2))).astype(np.float32)


def stretch(noise, n_samples, rng):
    """A random stretch of a recording, going round at its end if it is too short; returns (stretch, offset)."""
    room = len(noise) - n_samples
    offset = int(rng.integers(room + 1 if room >= 0 else len(noise)))
    if room >= 0:
        return noise[offset : offset + n_samples], offset
    return np.resize(np.roll(noise, -offset), n_samples), offset


def _shaped(n_samples, sample_rate, rng, gain):
    """White noise through the magnitude response gain(f in Hz), applied to one long FFT."""
    size = scipy.fft.next_fast_len(n_samples, real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size)) * gain(scipy.fft.rfftfreq(size, 1 / sample_rate))
    return scipy.fft.irfft(spectrum, size)[:n_samples]


def _white(n_samples, sample_rate, rng):
    return rng.standard_normal(n_samples)


def _pink(n_samples, sample_rate, rng):
    return _shaped(n_samples, sample_rate, rng, lambda f: np.maximum(f, PINK_LOW) ** -0.5)


def _speech_shaped(n_samples, sample_rate, rng):
    """Level interpolated in dB over log frequency; flat beyond both ends of the table."""

    def gain(f):
        return 10 ** (np.interp(np.log(np.maximum(f, 1.0)), np.log(_SPEECH_HZ), _SPEECH_DB) / 20)

    return _shaped(n_samples, sample_rate, rng, gain)


@functools.cache
def _talkers(sample_rate):
    """Speaker -> everything this training speaker of the toy corpus says, float32 at sample_rate."""
    from ganse_tf import audio, corpus

    said = {}
    for utterance in corpus.toy_corpus("train"):
        said.setdefault(utterance.speaker, []).append(utterance.wav)
    wavs = {speaker: np.concatenate(parts) for speaker, parts in said.items()}
    return {speaker: audio.resample(wav, SAMPLE_RATE, sample_rate) for speaker, wav in wavs.items()}


def _babble(n_samples, sample_rate, rng, exclude):
    """Six speakers, each at a random place of what they say and at a level within 3 dB of the others."""
    talkers = _talkers(int(sample_rate))
    names = [name for name in talkers if name not in exclude]
    total = np.zeros(n_samples)
    for name in rng.permutation(names)[:BABBLE_TALKERS]:
        total += 10 ** (rng.uniform(-1.5, 1.5) / 20) * stretch(talkers[name], n_samples, rng)[0]
    if not total.any():  # a few samples that fell into everybody's pause
        total = rng.standard_normal(n_samples)
    return total


def _wander(n_samples, sample_rate, rng, seconds):
    """Slow random curve, standard normal at every instant, that changes over about `seconds`."""
    step = seconds * sample_rate / WANDER_STEPS  # samples between the points computed; straight lines in between
    points = np.arange(int(n_samples / step) + 2)
    knots = rng.standard_normal(len(points) // WANDER_STEPS + 3)
    at = rng.uniform(0, 1) + points / WANDER_STEPS
    left = np.floor(at).astype(int)
    x = 0.5 - 0.5 * np.cos(np.pi * (at - left))
    # Raised-cosine cross-fade of neighbouring knots, divided by the standard deviation it leaves.
    curve = (knots[left] * (1 - x) + knots[left + 1] * x) / np.sqrt((1 - x) ** 2 + x**2)
    return np.interp(np.arange(n_samples) / step, points, curve)


def _engine(n_samples, sample_rate, rng):
    """sum_k a_k cos(k phase + phi_k), a_k about 1/sqrt(k), phase = integral of the wandering ignition frequency."""
    low, high = ENGINE_HZ
    frequency = rng.uniform(low, high) * np.exp(0.08 * _wander(n_samples, sample_rate, rng, 0.8))
    phasor = np.exp(2j * np.pi * np.cumsum(frequency) / sample_rate).astype(np.complex64)
    harmonics = min(ENGINE_HARMONICS, int(0.45 * sample_rate / frequency.max()))
    k = np.arange(1, harmonics + 1)
    amplitude = rng.uniform(0.3, 1.0, len(k)) / np.sqrt(k) * np.exp(2j * np.pi * rng.uniform(size=len(k)))
    tones = np.zeros(n_samples, np.complex64)
    for a in amplitude[::-1].astype(np.complex64):  # Horner's rule: one multiplication per harmonic, no cosine
        tones += a
        tones *= phasor
    tones = tones.real.astype(np.float64) * (1 + 0.15 * _wander(n_samples, sample_rate, rng, 0.3))
    rumble = _shaped(n_samples, sample_rate, rng, lambda f: 1 / np.sqrt(1 + (f / 250) ** 2))
    ratio = np.sqrt(np.mean(tones**2) / np.mean(rumble**2)) * 10 ** (ENGINE_BROADBAND_DB / 20)
    return tones + ratio * rumble


def _clicks(n_samples, sample_rate, rng):
    """Impulses at exponential intervals, each through three two-pole resonators."""
    expected = CLICKS_PER_SECOND * n_samples / sample_rate
    count = max(1, rng.poisson(expected))
    impulses = np.zeros(n_samples)
    heights = rng.choice([-1, 1], count) * 10 ** rng.normal(0, 0.15, count)
    np.add.at(impulses, rng.integers(n_samples, size=count), heights)
    noise = np.zeros(n_samples)
    for hertz in CLICK_HZ:
        if hertz < 0.45 * sample_rate:
            radius = 10 ** (-3 / (CLICK_DECAY * sample_rate))  # 60 dB in CLICK_DECAY seconds
            angle = 2 * np.pi * hertz * rng.uniform(0.9, 1.1) / sample_rate
            noise += scipy.signal.lfilter([1.0, -1.0], [1.0, -2 * radius * np.cos(angle), radius**2], impulses)
    # A trace of hiss, 40 dB down, so that no stretch of the signal is digitally silent.
    return noise + 0.01 * max(np.sqrt(np.mean(noise**2)), 1e-3) * rng.standard_normal(n_samples)


def _wind(n_samples, sample_rate, rng):
    """Low-passed noise whose level wanders by GUST_DB."""
    noise = _shaped(n_samples, sample_rate, rng, lambda f: 1 / (1 + (f / WIND_HZ) ** 2) ** 0.75)
    return noise * 10 ** (GUST_DB * _wander(n_samples, sample_rate, rng, GUST_SECONDS) / 20)
