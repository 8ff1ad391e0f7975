"""signal.py: identities over grids, agreement with librosa and scipy, gradients in silence, graphs, mixed precision."""

import doctest
import warnings

import keras
import librosa
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from ganse_tf import signal


def noise(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def largest_error(a, b):
    return float(np.max(np.abs(np.asarray(a) - np.asarray(b))))


def test_docstring_examples_run():
    result = doctest.testmod(signal, extraglobs={"tf": tf})
    assert result.attempted >= 19
    assert result.failed == 0


# ---- windows


@pytest.mark.parametrize("n", [1, 2, 5, 320, 512])
@pytest.mark.parametrize(
    "ours, scipys, periodic",
    [("hann", "hann", True), ("hamming", "hamming", True), ("hann_symmetric", "hann", False),
     ("hamming_symmetric", "hamming", False), ("rect", "boxcar", True)],
)  # fmt: skip
def test_windows_equal_scipys(ours, scipys, periodic, n):
    expected = scipy.signal.get_window(scipys, n, fftbins=periodic)
    np.testing.assert_allclose(signal.window_samples(ours, n), expected, atol=1e-12)


def test_sqrt_hann_squared_is_hann_and_arrays_pass_through():
    np.testing.assert_allclose(signal.window_samples("sqrt_hann", 64) ** 2, signal.window_samples("hann", 64), atol=1e-12)
    kaiser = np.kaiser(64, 8)
    np.testing.assert_array_equal(signal.window_samples(kaiser, 64), kaiser)


def test_window_errors_say_what_was_received():
    with pytest.raises(ValueError, match="window='han' is not known; expected one of hann, hamming"):
        signal.window_samples("han", 512)
    with pytest.raises(ValueError, match=r"window has shape \(4,\); expected \(5,\)"):
        signal.window_samples(np.ones(4), 5)


# ---- stft and istft

SETUPS = [  # n_fft, hop, win_length, window
    (512, 256, None, "hann"), (512, 128, None, "hann"), (512, 256, None, "hamming"), (512, 256, 512, "hamming_symmetric"),
    (512, 160, 400, "hann"), (512, 200, 401, "hamming"), (512, 256, None, "sqrt_hann"), (512, 512, None, "rect"),
    (256, 64, None, "hann_symmetric"), (2048, 80, 400, "hamming"), (512, 100, 320, "hann"), (510, 170, 510, "hamming"),
    (255, 100, 255, "hann"), (16, 8, None, "hann"), (256, 96, 256, np.kaiser(256, 6)),
]  # fmt: skip


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 1000, 4096, 5003])
@pytest.mark.parametrize("n_fft, hop, win_length, window", SETUPS)
def test_istft_inverts_stft(n_fft, hop, win_length, window, n):
    wav = noise(2, n)
    for pad_mode in ("reflect", "constant"):
        spec = signal.stft(wav, n_fft, hop, win_length, window, pad_mode)
        assert spec.dtype == tf.complex64
        assert spec.shape == (2, 1 + -(-n // hop), n_fft // 2 + 1)
        back = signal.istft(spec, n, n_fft, hop, win_length, window)
        assert back.shape == (2, n)
        assert largest_error(back, wav) < 1e-5


@pytest.mark.parametrize("pad_mode", ["reflect", "constant"])
@pytest.mark.parametrize("n", [1600, 4000, 4096])
@pytest.mark.parametrize("n_fft, hop, win_length", [(512, 256, None), (512, 160, 400), (512, 160, 401), (2048, 80, 400)])
def test_stft_equals_librosas_frames(n_fft, hop, win_length, n, pad_mode):
    wav = noise(n)
    theirs = librosa.stft(wav, n_fft=n_fft, hop_length=hop, win_length=win_length, window="hann", center=True,
                          pad_mode=pad_mode).T  # fmt: skip
    ours = signal.stft(wav, n_fft, hop, win_length, "hann", pad_mode).numpy()
    assert len(theirs) == 1 + n // hop
    assert len(ours) == 1 + -(-n // hop)
    assert largest_error(ours[: len(theirs)], theirs) < 1e-4 * np.abs(theirs).max()


def test_istft_agrees_with_librosa_on_a_changed_spectrogram():
    wav = noise(4096)
    spec = signal.stft(wav) * noise(17, 257, seed=1)
    theirs = librosa.istft(spec.numpy().T, hop_length=256, window="hann", length=4096)
    assert largest_error(signal.istft(spec, 4096), theirs) < 1e-5


def test_stft_works_on_any_number_of_leading_axes():
    wav = noise(2, 3, 2, 1000)
    spec = signal.stft(wav)
    assert largest_error(spec[1, 2, 0], signal.stft(wav[1, 2, 0])) < 1e-5
    assert largest_error(signal.istft(spec, 1000), wav) < 1e-5
    assert signal.istft(spec).shape == (2, 3, 2, 1024)  # whole hops
    assert signal.istft(spec, 1500).shape == (2, 3, 2, 1500)
    assert np.all(signal.istft(spec, 1500).numpy()[..., 1300:] == 0)


def test_short_signals_are_mirrored_as_far_as_they_reach_then_zeros():
    wav = noise(10)
    padded = np.pad(np.pad(wav, 9, mode="reflect"), 256 - 9)  # 256 on each side of 10 samples
    first_frame = np.fft.rfft(padded[:512] * scipy.signal.get_window("hann", 512))
    assert largest_error(signal.stft(wav)[0], first_frame) < 1e-5


@pytest.mark.parametrize("args, message", [
    ((512, 512, None, "hann"), "hop_length=512 leaves samples that no frame sees.*hop_length <= win_length // 2 = 256"),
    ((512, 500, 400, "rect"), "no frame sees"),
    ((256, 128, 512, "hann"), "n_fft=256, win_length=512, hop_length=128; expected n_fft >= win_length"),
    ((256, 0, 256, "hann"), "hop_length=0; expected .* hop_length >= 1"),
    ((256, 128, 256, "hann", "edge"), "pad_mode='edge'; expected 'reflect' or 'constant'"),
])  # fmt: skip
def test_stft_errors_are_sentences(args, message):
    with pytest.raises(ValueError, match=message):
        signal.stft(noise(1000), *args)


def test_istft_refuses_another_number_of_bins_and_stft_a_complex_signal():
    with pytest.raises(ValueError, match="spec has 129 bins on its last axis; n_fft=512 needs 257"):
        signal.istft(tf.zeros([4, 129], tf.complex64), 1000)
    with pytest.raises(ValueError, match="wav is complex"):
        signal.stft(tf.zeros([1000], tf.complex64))


# ---- graphs, precision, gradients


def test_one_graph_serves_all_lengths():
    traces = []

    @tf.function(input_signature=[tf.TensorSpec([None, None])])
    def there_and_back(wav):
        traces.append(1)
        n = tf.shape(wav)[-1]
        spec = signal.stft(wav, 512, 160, 400)
        assert spec.shape.as_list() == [None, None, 257]
        mask = signal.average_context(signal.context(signal.magnitude(spec), 2, 2), 2, 2)
        wav = signal.istft(signal.with_phase_of(mask, spec), n, 512, 160, 400)
        wav = signal.deemphasis(signal.preemphasis(wav))
        return signal.overlap_add(signal.frame(wav, 320, 160), 160, n, "hann")

    for n in (1, 17, 1000, 16000):
        wav = noise(2, n, seed=n)
        back = there_and_back(wav).numpy()
        assert back.shape == wav.shape
        assert largest_error(back[:, 1 : n - 1], wav[:, 1 : n - 1]) < 1e-5 if n > 2 else np.isfinite(back).all()
    assert len(traces) == 1


def test_shapes_are_static_when_the_length_is():
    spec = keras.Input((16000,), dtype="float32")
    model = keras.Model(spec, keras.layers.Lambda(lambda x: signal.stft(x), output_shape=(64, 257))(spec))
    assert model(noise(2, 16000)).shape == (2, 64, 257)
    graph = tf.function(lambda x: signal.istft(signal.stft(x), 16000)).get_concrete_function(tf.TensorSpec([4, 16000]))
    assert graph.output_shapes == [4, 16000]


def test_xla_gives_the_same_values():
    wav = noise(2, 3000)

    def chain(x):
        return signal.deemphasis(signal.istft(signal.stft(signal.preemphasis(x)), 3000))

    assert largest_error(tf.function(chain, jit_compile=True)(wav), chain(wav)) < 1e-5


def test_everything_is_float32_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        wav = tf.cast(noise(2, 2000), tf.float16)
        spec = signal.stft(wav)
        assert spec.dtype == tf.complex64
        gain = tf.ones([2, 9, 257], tf.float16)
        for value in (
            signal.istft(spec, 2000), signal.magnitude(spec), signal.preemphasis(wav), signal.deemphasis(wav),
            signal.frame(wav, 100, 50), signal.overlap_add(tf.ones([3, 8], tf.float16), 4), signal.context(gain, 1, 1),
            signal.average_context(signal.context(gain, 1, 1), 1, 1), signal.log_power(gain),
            signal.log1p_magnitude(gain), signal.log_mel(wav), signal.mel_gain_to_bins(gain), signal.irm(gain, gain),
            signal.smm(gain, gain), signal.psm(spec, spec), signal.freq_mask(gain, 5, (0, 0)), signal.fade(wav, 9, 9),
            signal.gammatone_envelope(signal.gammatone_analysis(wav)),
        ):  # fmt: skip
            assert value.dtype == tf.float32
        assert signal.with_phase_of(tf.abs(gain), spec).dtype == tf.complex64
        assert largest_error(signal.istft(spec, 2000), tf.cast(wav, tf.float32)) < 1e-5
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("function", [
    lambda x: signal.magnitude(signal.stft(x)),
    lambda x: signal.magnitude(signal.stft(x), eps=1e-6),
    lambda x: signal.log_power(signal.stft(x)),
    lambda x: signal.log1p_magnitude(signal.stft(x)),
    lambda x: signal.log_mel(x),
    lambda x: tf.abs(signal.with_phase_of(signal.magnitude(signal.stft(x)), signal.stft(x))),
    lambda x: signal.istft(signal.with_phase_of(signal.magnitude(signal.stft(x)), signal.stft(x)), 2000),
    lambda x: signal.irm(signal.magnitude(signal.stft(x)), tf.zeros([9, 257])),
    lambda x: signal.smm(signal.magnitude(signal.stft(x)), signal.magnitude(signal.stft(x))),
    lambda x: signal.psm(signal.stft(x), signal.stft(x)),
    lambda x: tf.math.log(signal.gammatone_envelope(signal.gammatone_analysis(x))),
], ids=range(11))  # fmt: skip
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0])
def test_gradients_are_finite_in_silence_and_noise(function, scale):
    wav = tf.constant(noise(2000) * np.float32(scale))
    with tf.GradientTape() as tape:
        tape.watch(wav)
        value = tf.reduce_sum(function(wav))
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, wav)).all()


def test_magnitude_gradient_equals_the_closed_form():
    with tf.GradientTape() as tape:
        x = tf.constant([3.0, 0.0])
        tape.watch(x)
        mag = signal.magnitude(tf.complex(x, tf.constant([4.0, 0.0])))
    np.testing.assert_allclose(mag, [5.0, 0.0])
    np.testing.assert_allclose(tape.gradient(mag, x), [0.6, 0.0], rtol=1e-6)


def test_phase_is_kept_and_recombined():
    spec = signal.stft(noise(2000))
    mag, phase = signal.magnitude(spec), tf.math.angle(spec)
    assert largest_error(signal.with_phase_of(mag, spec), spec) < 1e-5
    assert largest_error(signal.polar(mag, phase), spec) < 1e-4
    assert largest_error(tf.abs(signal.with_phase_of(3 * mag, spec)), 3 * mag) < 1e-4
    assert signal.with_phase_of([2.0], tf.constant([0j])).numpy()[0] == 2.0


# ---- emphasis


@pytest.mark.parametrize("coef", [0.95, 0.97, -0.5, 0.0, 0.9999])
@pytest.mark.parametrize("n", [1, 2, 3, 1000, 16000 * 60])
def test_emphasis_equals_scipys_filters(coef, n):
    wav = noise(n) / 10
    expected = scipy.signal.lfilter([1.0], [1.0, -coef], wav.astype(np.float64))
    assert largest_error(signal.deemphasis(wav, coef), expected) < 1e-5 * max(1, np.abs(expected).max())
    emphasised = signal.preemphasis(wav, coef)
    assert largest_error(emphasised, scipy.signal.lfilter([1.0, -coef], [1.0], wav)) < 1e-6
    assert largest_error(signal.deemphasis(emphasised, coef), wav) < (1e-5 if coef < 0.99 else 1e-4)


def test_deemphasis_keeps_batch_axes_and_refuses_growth():
    wav = noise(2, 3, 100)
    assert largest_error(signal.deemphasis(wav)[1, 2], signal.deemphasis(wav[1, 2])) == 0
    with pytest.raises(ValueError, match="coef=1.0; expected a number between -1 and 1"):
        signal.deemphasis(wav, 1.0)


def test_emphasis_gradients_are_each_others_transposes():
    x, y = tf.constant(noise(500)), tf.constant(noise(500, seed=1))
    for function in (signal.preemphasis, signal.deemphasis):
        with tf.GradientTape() as tape:
            tape.watch(x)
            product = tf.reduce_sum(function(x) * y)
        reverse = function(y[::-1])[::-1]  # the transpose of a filter runs backwards in time
        assert largest_error(tape.gradient(product, x), reverse) < 1e-4


# ---- frames


@pytest.mark.parametrize("n", [1, 5, 16, 17, 100])
@pytest.mark.parametrize("length, hop", [(16, 16), (16, 8), (16, 5), (7, 3)])
def test_frames_cover_every_sample_and_add_up_again(n, length, hop):
    wav = noise(2, n)
    frames = signal.frame(wav, length, hop)
    assert frames.shape == (2, 1 + max(0, -(-(n - length) // hop)), length)
    np.testing.assert_array_equal(frames[:, 0, : min(n, length)], wav[:, :length])
    for window in (None, "hamming"):
        assert largest_error(signal.overlap_add(frames, hop, n, window), wav) < 1e-5
        weights = signal.window_samples(window or "rect", length).astype(np.float32)
        assert largest_error(signal.overlap_add(frames * weights, hop, n, window, windowed=True), wav) < 1e-5
    assert signal.frame(wav, length, hop, pad_end=False).shape == (2, max(0, 1 + (n - length) // hop), length)


def test_overlap_add_averages_predictions_or_sums_them():
    frames = tf.constant([[1.0, 1.0], [3.0, 3.0]])
    assert signal.overlap_add(frames, 1).numpy().tolist() == [1, 2, 3]
    assert signal.overlap_add(frames, 1, normalise=False).numpy().tolist() == [1, 4, 3]
    assert signal.overlap_add(frames, 1, 5).numpy().tolist() == [1, 2, 3, 0, 0]
    assert signal.overlap_add(frames, 3).numpy().tolist() == [1, 1, 0, 3, 3]  # uncovered: 0, not NaN
    assert signal.overlap_add(frames, 1, window=[1.0, 3.0]).numpy().tolist() == [1, 1.5, 3]  # (3*1 + 1*3) / 4


@pytest.mark.parametrize("pad_end", [True, False])
@pytest.mark.parametrize("n, length, hop", [(100, 16, 5), (7, 16, 8), (64, 16, 16), (50, 8, 11)])
def test_gradient_of_frames_is_overlap_add(n, length, hop, pad_end):
    wav = tf.constant(noise(2, n))
    count = signal.frame(wav, length, hop, pad_end).shape[1]
    weights = noise(2, count, length, seed=1)
    with tf.GradientTape() as tape:
        tape.watch(wav)
        value = tf.reduce_sum(signal.frame(wav, length, hop, pad_end) * weights)
    expected = np.zeros([2, max(n, (count - 1) * hop + length)])
    for t in range(count):
        expected[:, t * hop : t * hop + length] += weights[:, t]
    np.testing.assert_allclose(tape.gradient(value, wav), expected[:, :n], atol=1e-5)


def test_frame_refuses_a_hop_of_zero():
    with pytest.raises(ValueError, match="frame_length=4, hop_length=0; expected both >= 1"):
        signal.frame(noise(10), 4, 0)


def test_context_orders_frames_as_the_papers_do():
    rows = signal.context([[1.0], [2.0], [3.0]], 3, 3)[..., 0].numpy()  # MMSE-GAN spec, fact 6
    assert rows[0].tolist() == [1, 1, 1, 1, 2, 3, 3]
    assert rows[1].tolist() == [1, 1, 1, 2, 3, 3, 3]
    assert signal.context([[1.0], [2.0]], 1, 1, pad="zero")[..., 0].numpy().tolist() == [[0, 1, 2], [1, 2, 0]]
    flat = tf.reshape(signal.context([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], 1, 1, pad="none"), [1, 6])
    assert flat.numpy().tolist() == [[1, 10, 2, 20, 3, 30]]


@pytest.mark.parametrize("pad", ["edge", "zero", "none"])
@pytest.mark.parametrize("left, right", [(2, 2), (5, 5), (3, 0), (0, 1)])
def test_average_context_inverts_context(left, right, pad):
    frames = noise(2, 11, 4)
    windows = signal.context(frames, left, right, pad)
    assert windows.shape == (2, 11 - (left + right) * (pad == "none"), left + 1 + right, 4)
    assert largest_error(signal.average_context(windows, left, right, pad), frames) < 1e-6


def test_average_context_divides_by_the_number_of_predictions():
    marks = np.zeros([4, 5, 1], np.float32)
    marks[1] = 1  # window 1 of 4 says one, the others zero: 8 frames, counts 1 2 3 4 4 3 2 1 (DNN-GAN spec, fact 6)
    expected = [0, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 3, 0, 0]
    np.testing.assert_allclose(signal.average_context(marks, 2, 2, "none")[:, 0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"windows has shape \(4, 5, 1\); expected \(..., W, 3, F\)"):
        signal.average_context(marks, 1, 1)
    with pytest.raises(ValueError, match="pad='same'; expected 'edge', 'zero' or 'none'"):
        signal.context(marks, 1, 1, "same")


# ---- features


@pytest.mark.parametrize("n_mels, n_fft, rate, fmin, fmax", [
    (128, 1024, 16000, 125.0, 7500.0), (29, 512, 16000, 0.0, 8000.0), (40, 2048, 22050, 20.0, None),
])  # fmt: skip
def test_mel_matrix_equals_librosas_htk_filters(n_mels, n_fft, rate, fmin, fmax):
    theirs = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax, htk=True, norm=None)
    assert largest_error(signal.mel_matrix(n_mels, n_fft, rate, fmin, fmax), theirs.T) < 1e-6


def test_mel_bands_without_a_bin_are_reported():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (signal.mel_matrix().sum(0) > 0).all()  # FSEGAN spec, fact 5
    signal.mel_matrix.cache_clear()
    with pytest.warns(UserWarning, match="1 of 128 mel bands contain no FFT bin .n_fft=512"):
        matrix = signal.mel_matrix(n_fft=512)
    assert np.flatnonzero(matrix.sum(0) == 0).tolist() == [0]
    with pytest.raises(ValueError, match="fmin=125.0, fmax=9000 Hz at sample_rate=16000; expected .* <= 8000"):
        signal.mel_matrix(fmax=9000)


@pytest.mark.parametrize("n, frames", [(20832, 128), (20480, 125)])  # FSEGAN spec, fact 4
def test_log_mel_frames_as_fsegan_counts_them(n, frames):
    assert signal.log_mel(noise(n)).shape == (frames, 128)
    assert signal.log_mel(noise(2, n), centred=True).shape == (2, 1 + -(-n // 160), 128)


def test_log_mel_equals_librosas():
    wav = noise(8000)
    theirs = librosa.feature.melspectrogram(
        y=wav, sr=16000, n_fft=1024, hop_length=160, win_length=512, power=2.0, pad_mode="reflect",
        n_mels=40, fmin=125, fmax=7500, htk=True, norm=None,
    )  # fmt: skip
    ours = signal.log_mel(wav, n_mels=40, power=2.0, centred=True)
    np.testing.assert_allclose(ours, np.log(theirs.T), atol=1e-3)


def test_log_mel_of_whole_frames_by_hand():
    wav = noise(832)
    frames = np.stack([wav[:512], wav[160:672], wav[320:832]]) * scipy.signal.get_window("hann", 512)
    expected = np.log(np.maximum(np.abs(np.fft.rfft(frames, 1024)) @ signal.mel_matrix(), 1e-6))
    np.testing.assert_allclose(signal.log_mel(wav), expected, atol=1e-4)
    np.testing.assert_allclose(signal.log_mel(np.zeros(512)), np.log(1e-6), rtol=1e-6)


def test_mel_gains_reach_the_bins():
    ones = signal.mel_gain_to_bins(tf.ones([2, 3, 128]))
    np.testing.assert_allclose(ones, np.ones([2, 3, 513]), atol=1e-6)
    gain = np.random.default_rng(0).uniform(0, 1, [5, 40]).astype(np.float32)
    bins = signal.mel_gain_to_bins(gain).numpy()
    assert bins.min() >= gain.min() - 1e-6
    assert bins.max() <= gain.max() + 1e-6
    np.testing.assert_allclose(bins[:, 0], gain[:, 0], rtol=1e-6)  # held below the first centre
    np.testing.assert_allclose(bins[:, -1], gain[:, -1], rtol=1e-6)
    step = signal.mel_gain_to_bins(np.repeat([0.0, 1.0], 20)).numpy()
    assert (np.diff(step) >= 0).all()
    assert step[-1] == 1


def test_log_features_by_hand():
    spec = tf.constant([3 + 4j, 0j])
    np.testing.assert_allclose(signal.log_power(spec), [np.log(25), np.log(1e-10)], rtol=1e-6)
    np.testing.assert_allclose(signal.log_power([5.0, 0.0], floor=1e-4), [np.log(25), np.log(1e-4)], rtol=1e-6)
    np.testing.assert_allclose(signal.log1p_magnitude(spec), [np.log(6), 0], rtol=1e-6)


# ---- masks


def test_ideal_masks_by_hand():
    np.testing.assert_allclose(signal.irm([3.0, 0.0, 0.0, 1.0], [4.0, 1.0, 0.0, 0.0]), [0.6, 0, 0, 1], rtol=1e-6)
    smm = signal.smm([1.0, 2.0, 30.0, 0.0], [2.0, 1.0, 1.0, 4.0])  # DNN-GAN spec, fact 3
    np.testing.assert_allclose(smm, [0.5, 2.0, 10.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(smm / 5 - 1, [-0.9, -0.6, 1.0, -1.0], rtol=1e-6)
    psm = signal.psm([1 + 0j, 1j, -1 + 0j, 3 + 0j, 1 + 0j], [2 + 0j, 1 + 0j, 1 + 0j, 1 + 0j, 0j])
    np.testing.assert_allclose(psm, [0.5, 0, 0, 1, 0])


def test_a_perfect_smm_with_noisy_phase_gives_the_clean_magnitude():
    noisy, clean = signal.stft(noise(4000)), signal.stft(noise(4000, seed=1))
    mask = signal.smm(signal.magnitude(clean), signal.magnitude(noisy), clip=np.inf)
    ours = signal.magnitude(signal.with_phase_of(mask * signal.magnitude(noisy), noisy))
    assert largest_error(ours, signal.magnitude(clean)) < 1e-4
    assert largest_error(signal.magnitude(tf.cast(mask, tf.complex64) * noisy), signal.magnitude(clean)) < 1e-4
