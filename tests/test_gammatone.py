"""gammatone.py against the golden values of the MMSE-GAN filterbank (computed once in float64 from its definition)."""

import doctest

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from ganse_tf import gammatone, signal


def si_sdr(reference, estimate):
    scaled = reference * np.dot(estimate, reference) / np.dot(reference, reference)
    return 10 * np.log10(np.sum(scaled**2) / np.sum((scaled - estimate) ** 2))


def speech_like(n=32000):
    """A 120 Hz buzz through two moving resonances, plus breath noise, within the filterbank's range."""
    t, rng = np.arange(n) / 16000, np.random.default_rng(0)
    wav = np.zeros(n)
    for k in range(1, 58):
        f = 120 * k
        formant = 1 / (1 + ((f - 600 - 300 * np.sin(6 * t)) / 300) ** 2) + 0.3 / (1 + ((f - 2200) / 500) ** 2)
        wav += formant * np.cos(2 * np.pi * f * t + k * k)
    fades = np.minimum(1, np.minimum(t, t[::-1]) / 0.1)
    return in_range((wav + 0.02 * rng.standard_normal(n)) * fades) / 10


def in_range(wav):
    """Keep 120 Hz to 6.8 kHz: outside of about 100 Hz to 7 kHz the filterbank loses energy by design."""
    band = scipy.signal.butter(6, [120, 6800], "band", fs=16000, output="sos")
    return scipy.signal.sosfiltfilt(band, wav).astype(np.float32)


def test_docstring_examples_run():
    result = doctest.testmod(gammatone, extraglobs={"tf": tf})
    assert result.attempted >= 5
    assert result.failed == 0


def test_centre_frequencies():
    centres, responses = gammatone.gammatone_filters()
    assert centres.shape == (64,)
    assert responses.shape == (64, 800)
    np.testing.assert_allclose(centres[[0, 34, 63]], [59.77119112, 1500.0, 7730.22380], rtol=1e-9)


def test_impulse_responses():
    responses = gammatone.gammatone_filters()[1][[0, 34, 63]]
    np.testing.assert_allclose(np.sum(responses**2, -1), [0.00389974596, 0.0233336228, 0.0989278838], rtol=1e-8)
    assert np.argmax(np.abs(responses), -1).tolist() == [265, 37, 5]


def test_gain_is_unity_at_the_centres_and_flat_in_sum():
    centres, responses = gammatone.gammatone_filters()
    freqs = np.arange(0, 8001) * 1.0
    power = np.abs(np.fft.rfft(responses, 16000)) ** 2
    at_centre = 10 * np.log10([np.interp(f, freqs, p) for f, p in zip(centres, power)])
    assert -0.71 < at_centre.min() < at_centre.max() < 0.13
    total = 10 * np.log10(power.sum(0)[100:7001])
    assert np.abs(total - 3.14).max() < 0.04


@pytest.mark.parametrize("freq, channel, plain, emphasised", [
    (1500, 34, 0.4450643414, 0.2528293704), (1000, 28, 0.4019059253, 0.1541606241),
])  # fmt: skip
def test_envelope_of_a_sine(freq, channel, plain, emphasised):
    sine = np.sin(2 * np.pi * freq * np.arange(16000) / 16000).astype(np.float32)
    for wav, expected in ((sine, plain), (signal.preemphasis(sine), emphasised)):
        envelope = gammatone.gammatone_envelope(gammatone.gammatone_analysis(wav))
        assert envelope.shape == (99, 64)
        assert int(tf.argmax(envelope[50])) == channel
        assert float(envelope[50, channel]) == pytest.approx(expected, rel=2e-5)


def test_hamming_rms_and_frame_count():
    ones = tf.ones([1, 320])
    assert float(gammatone.gammatone_envelope(ones)[0, 0]) == pytest.approx(0.6294268226, rel=1e-6)
    for n in (320, 479, 480, 16000):
        assert gammatone.gammatone_envelope(tf.ones([2, 5, n])).shape == (2, (n - 160) // 160, 5)
    np.testing.assert_allclose(gammatone.gammatone_envelope(tf.zeros([1, 320])), 1e-8)


def test_analysis_equals_direct_convolution():
    wav = np.random.default_rng(0).standard_normal([2, 1000]).astype(np.float32)
    bands = gammatone.gammatone_analysis(wav).numpy()
    assert bands.shape == (2, 64, 1000)
    responses = gammatone.gammatone_filters()[1]
    for k in (0, 34, 63):
        expected = np.convolve(wav[1], responses[k])[400:1400]
        np.testing.assert_allclose(bands[1, k], expected, atol=2e-6)


def test_synthesis_equals_framing_and_overlap_add_of_every_band():
    rng = np.random.default_rng(1)
    bands = rng.standard_normal([64, 1120]).astype(np.float32)
    mask = rng.uniform(0, 1, [6, 64]).astype(np.float32)
    window = np.hamming(320).astype(np.float32)
    frames = signal.frame(bands, 320, 160, pad_end=False) * window
    masked = signal.overlap_add(frames * mask.T[:, :, None], 160, window=window, windowed=True)
    ours = gammatone.gammatone_synthesis(bands, mask)
    assert np.abs(ours - gammatone.gammatone_synthesis(masked)).max() < 1e-5


@pytest.mark.parametrize("emphasis", [0.0, 0.95])
def test_all_ones_mask_gives_the_signal_back(emphasis):
    wav = np.pad(speech_like(), [400, 0])  # the high bands lose the first 400 samples of their input
    bands = gammatone.gammatone_analysis(signal.preemphasis(wav, emphasis))
    envelope = gammatone.gammatone_envelope(bands)
    back = gammatone.gammatone_synthesis(bands, tf.ones_like(envelope))
    assert back.shape == wav.shape
    back = signal.deemphasis(back, emphasis).numpy()
    assert si_sdr(wav, back) > 50
    assert 10 * np.log10(np.sum(back**2) / np.sum(wav**2)) == pytest.approx(0, abs=0.1)  # level restored
    assert si_sdr(wav[:-1], back[1:]) < 20  # aligned: one sample off is much worse


def test_all_ones_mask_on_real_speech(shared_data):
    import soundfile

    path = sorted(shared_data.glob("speech/librispeech_train_clean_100/**/*.flac"))[0]
    wav, rate = soundfile.read(path, dtype="float32", frames=48000)
    assert rate == 16000
    wav = np.pad(in_range(wav), [400, 0])
    bands = gammatone.gammatone_analysis(wav)
    back = gammatone.gammatone_synthesis(bands, tf.ones([(len(wav) - 160) // 160, 64])).numpy()
    assert si_sdr(wav, back) > 45


def test_dynamic_length_and_batch_in_one_graph():
    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def there_and_back(wav):
        bands = gammatone.gammatone_analysis(wav)
        return gammatone.gammatone_synthesis(bands, tf.ones_like(gammatone.gammatone_envelope(bands)))

    for n in (320, 1000, 16001):
        wav = np.stack([speech_like(n), np.zeros(n, np.float32)])
        back = there_and_back(wav).numpy()
        assert back.shape == wav.shape
        single = gammatone.gammatone_synthesis(gammatone.gammatone_analysis(wav[0]))
        np.testing.assert_allclose(back[0], single, atol=1e-5)
        assert np.all(back[1] == 0)


def test_errors_are_sentences():
    with pytest.raises(ValueError, match="mask has 32 channels on its last axis, the bands have 64"):
        gammatone.gammatone_synthesis(tf.zeros([64, 1000]), tf.ones([5, 32]))
    with pytest.raises(ValueError, match="fbase=1500.0, fmax=1000 Hz at sample_rate=16000; expected 0 <= fmin"):
        gammatone.gammatone_filters(fmax=1000)
