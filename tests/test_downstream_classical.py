"""Classical baselines: they improve stationary noise, keep length and silence, and their gains follow the equations."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special

from ganse_tf import audio, metrics
from ganse_tf.downstream import classical

RATE = 16000
ESTIMATORS = {**classical.BASELINES, "STSA-MMSE": classical.stsa_mmse}


def voiced_bursts(seconds=3.0, seed=0):
    """A speech stand-in: 300 ms harmonic bursts with pauses, after 300 ms of silence."""
    t = np.arange(int(seconds * RATE)) / RATE
    rng = np.random.default_rng(seed)
    envelope = np.clip(np.sin(2 * np.pi * (t - 0.3) / 0.6), 0, None) * (t > 0.3)
    tone = sum(np.sin(2 * np.pi * 140 * k * t + rng.uniform(0, 6)) / k for k in range(1, 20))
    return (0.1 * envelope * tone).astype(np.float32)


def with_white_noise(clean, snr_db, seed=1):
    noise = np.random.default_rng(seed).normal(size=clean.shape)
    return (clean + noise * np.sqrt(np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr_db / 10))).astype(np.float32)


def test_baselines_are_the_three_rows_of_the_tables():
    assert list(classical.BASELINES) == ["spectral subtraction", "Wiener", "log-MMSE"]


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("snr_db", [0, 10])
def test_beats_the_noisy_input_in_stationary_noise(name, snr_db):
    clean = voiced_bursts()
    noisy = with_white_noise(clean, snr_db)
    enhanced = ESTIMATORS[name](noisy, RATE)
    for metric in (metrics.si_sdr, metrics.ssnr):
        assert metric(clean, enhanced, RATE) > metric(clean, noisy, RATE) + 3


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("n", [1, 2, 255, 512, 4001])
def test_any_length_comes_back_finite_and_as_float32(name, n):
    noisy = np.random.default_rng(0).normal(size=n).astype(np.float32)
    enhanced = ESTIMATORS[name](noisy, RATE)
    assert enhanced.shape == (n,) and enhanced.dtype == np.float32 and np.all(np.isfinite(enhanced))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_silence_stays_silent_and_nothing_is_amplified(name):
    assert np.array_equal(ESTIMATORS[name](np.zeros(4000, np.float32), RATE), np.zeros(4000, np.float32))
    noisy = with_white_noise(voiced_bursts(1.0), 0)
    assert np.sum(ESTIMATORS[name](noisy, RATE) ** 2) < np.sum(noisy**2)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_clean_speech_passes(name):
    clean = voiced_bursts()
    assert metrics.si_sdr(clean, ESTIMATORS[name](clean, RATE), RATE) > 30


@pytest.mark.parametrize("rate", [8000, 11025, 48000])
def test_stereo_is_two_mono_calls_at_any_rate(rate):
    stereo = np.random.default_rng(0).normal(size=(3001, 2)).astype(np.float32)
    enhanced = classical.wiener(stereo, rate)
    assert enhanced.shape == stereo.shape
    np.testing.assert_array_equal(enhanced[:, 1], classical.wiener(stereo[:, 1], rate))


def test_a_recording_that_opens_with_speech_recovers():
    """Speech from the first sample: the noise estimate starts too high and comes down in the pauses."""
    clean = voiced_bursts(6.0)[int(0.35 * RATE) :]
    noisy = with_white_noise(clean, 10)
    late = slice(3 * RATE, None)
    enhanced = classical.log_mmse(noisy, RATE)
    assert metrics.si_sdr(clean[late], enhanced[late], RATE) > metrics.si_sdr(clean[late], noisy[late], RATE) + 2


def test_wiener_exponent_one_is_the_square_of_the_default_gain_in_steady_noise():
    noisy = np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    mild, theory = classical.wiener(noisy, RATE), classical.wiener(noisy, RATE, exponent=1.0)
    assert np.sum(theory**2) < np.sum(mild**2) < np.sum(noisy**2)


def test_track_noise_converges_to_a_new_lower_level():
    rng = np.random.default_rng(0)
    power = rng.exponential(size=(600, 128)) * np.where(np.arange(600) < 100, 4.0, 1.0)[:, None]
    tracked = classical.track_noise(power, 6)
    assert abs(tracked[6:90].mean() / 4 - 1) < 0.1
    assert abs(tracked[500:].mean() - 1) < 0.05


def test_track_noise_is_capped_by_the_quietest_moment_nearby():
    power = np.ones((200, 3))
    power[:50] = 1000.0  # a recording that opens with 0.8 s of speech, then pauses
    tracked = classical.track_noise(power, 6)
    assert np.all(tracked[0] == 1000.0)  # no pause within 0.75 s: nothing better is known
    assert np.all(tracked[60:] < 4)  # 3 times the quiet level, and a rest of the decaying smoother


def test_gains_at_high_snr_are_the_wiener_gain():
    xi, gamma = np.array([100.0]), np.array([101.0])
    np.testing.assert_allclose(classical.log_mmse_gain(xi, gamma), xi / (1 + xi), rtol=1e-6)
    np.testing.assert_allclose(classical.stsa_mmse_gain(xi, gamma), xi / (1 + xi), rtol=5e-3)


@pytest.mark.parametrize("xi, gamma", [(0.1, 0.5), (1.0, 2.0), (5.0, 1.5)])
def test_gains_are_the_conditional_expectations(xi, gamma):
    """Given |Y| = 1 the clean spectrum is Gaussian around the Wiener estimate, so its amplitude is Rice distributed."""
    v, wiener_gain = xi / (1 + xi) * gamma, xi / (1 + xi)
    spread = wiener_gain / gamma  # E|X - G Y|^2

    def density(a):
        gauss = np.exp(-((a - wiener_gain) ** 2) / spread)
        return 2 * a / spread * gauss * scipy.special.i0e(2 * a * np.sqrt(v / spread))

    mean = scipy.integrate.quad(lambda a: a * density(a), 0, 20)[0]
    log_mean = scipy.integrate.quad(lambda a: np.log(a) * density(a), 0, 20)[0]
    assert classical.stsa_mmse_gain(xi, gamma) == pytest.approx(mean, rel=1e-6)
    assert classical.log_mmse_gain(xi, gamma) == pytest.approx(np.exp(log_mean), rel=1e-5)


def test_bad_sound_is_refused_by_the_audio_door():
    with pytest.raises(audio.AudioError):
        classical.wiener(np.array([0.0, np.nan], np.float32), RATE)
