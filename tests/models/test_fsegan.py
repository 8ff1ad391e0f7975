"""FSEGAN: the acceptance facts of the paper, its front end, mono and stereo, and the sound that the paper does not make."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, signal
from ganse_tf.models import fsegan
from ganse_tf.models.fsegan import FSEGAN, log_mel
from tests.common import CommonSuite, copy_of, same, trainable


def small(**kwargs):
    """Four channels instead of 64, with statistics like those of real log-mel spectra."""
    model = FSEGAN(**{"filters": 4, "d_filters": 2, **kwargs})
    model.mean.assign(tf.fill([128], -3.0))
    model.std.assign(tf.fill([128], 3.0))
    return model


class TestFSEGAN(CommonSuite):
    paper_model = FSEGAN
    paper_counts = {"generator": 41_816_064, "discriminator": 2_761_472}
    small = staticmethod(small)
    seconds = 1.31  # one window needs 1.302 s
    overfit_to = 0.85
    overfit_steps = 60


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return small()


@pytest.fixture(scope="module")
def sound():
    return tuple(wav[:40000] for wav in data.toy_pairs("train", n=1, snr_db=5)[0].load()[:2])


# ---- networks --------------------------------------------------------------------------------------------------------


def test_counts_of_mono_and_with_biases():
    def counts(*args):
        return trainable(fsegan.build_generator(*args)), trainable(fsegan.build_discriminator(*args))

    assert counts(1, 64) == (41_815_040, 2_760_448)
    assert counts(2, 64, True) == (41_820_545, 2_762_433)
    assert counts(1, 64, True) == (41_819_521, 2_761_409)
    assert trainable(FSEGAN.tiny().generator) == 2_614_016


def test_shapes_of_the_paper_networks():
    g, d = fsegan.build_generator(), fsegan.build_discriminator()
    sizes = [g.get_layer(f"e{i}").output.shape[1:] for i in range(1, 8)]
    assert sizes == [(64, 64, 64), (32, 32, 128), (16, 16, 256), (8, 8, 512), (4, 4, 512), (2, 2, 512), (1, 1, 512)]
    assert g.get_layer("d6_skip").output.shape == (None, 64, 64, 128)
    assert g.get_layer("d7").kernel.shape == (4, 4, 1, 128)
    assert d.get_layer("c4").output.shape == (None, 8, 8, 512)
    assert d.get_layer("c5").kernel.shape == (1, 8, 512, 1)

    def norms(network):
        return [layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]

    assert norms(g) == [] and norms(d) == ["c2_bn", "c3_bn", "c4_bn"]
    assert g(tf.zeros((2, 128, 128, 2))).shape == (2, 128, 128, 1)
    assert d([tf.zeros((2, 128, 128, 2)), tf.zeros((2, 128, 128, 1))]).shape == (2, 8)


def test_layers_of_one_size_start_with_different_weights():
    keras.utils.set_random_seed(1)
    g, d = FSEGAN.tiny().generator, FSEGAN.tiny().discriminator
    assert not np.array_equal(g.get_layer("e5").kernel, g.get_layer("e6").kernel)
    assert float(np.std(g.get_layer("d2").kernel)) == pytest.approx(0.04, rel=0.05)  # a quarter of the filters: twice
    assert fsegan.convolution(64, use_bias=False)["kernel_initializer"].stddev == 0.02
    gamma = np.array(d.get_layer("c4_bn").gamma)
    assert np.mean(gamma) == pytest.approx(1.0, abs=0.01) and np.std(gamma) == pytest.approx(0.02, rel=0.3)


def test_without_biases_g_is_homogeneous_and_it_draws_nothing(model):
    x = tf.random.stateless_normal((2, 128, 128, 2), (1, 2))
    y = model.generator(x, training=True)
    np.testing.assert_allclose(model.generator(2 * x), 2 * y, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.generator(x, training=True), y)


@pytest.mark.parametrize("frame, moved", [(14, [0, 1]), (31, [1, 2]), (46, [1, 2, 3]), (127, [7])])
def test_a_decision_sees_46_frames(model, frame, moved):
    noisy, candidate = (tf.random.stateless_normal((1, 128, 128, c), (2, c)) for c in (2, 1))
    touched = candidate + 10.0 * tf.one_hot(frame, 128)[:, None, None]  # all bands of one frame
    before, after = (model.discriminator([noisy, c], training=False)[0].numpy() for c in (candidate, touched))
    assert np.flatnonzero(before != after).tolist() == moved


def test_more_decisions_cost_no_weights():
    for decisions in (16, 128):
        d = fsegan.build_discriminator(2, 4, decisions=decisions)
        assert d.output_shape == (None, decisions)
        assert trainable(d) == trainable(fsegan.build_discriminator(2, 4))


# ---- losses and steps ------------------------------------------------------------------------------------------------


def test_losses_in_closed_form(model):
    zeros = tf.zeros((2, 8))
    assert float(model.discriminator_loss(zeros, zeros)) == pytest.approx(1.386294, abs=1e-5)
    real, fake = tf.constant([[0.0], [2.0]]), tf.constant([[0.0], [-2.0]])
    clean = tf.zeros((1, 128, 128, 1))
    assert float(model.discriminator_loss(real, fake)) == pytest.approx(0.820075, abs=1e-5)
    assert float(model.generator_loss(clean, clean, zeros)[0]) == pytest.approx(0.693147, abs=1e-5)
    assert float(model.generator_loss(clean, clean, fake)[0]) == pytest.approx(1.410038, abs=1e-5)
    total, terms = model.generator_loss(clean, clean + 0.02)
    assert float(total) == pytest.approx(2.0, abs=1e-4)
    assert float(terms["g_l1"]) == pytest.approx(0.02, abs=1e-6)


def test_a_step_of_one_network_leaves_every_number_of_the_other(model):
    batch = tuple(tf.random.stateless_normal((2, 128, 128, c), (3, c)) for c in (2, 1))
    frozen = small()
    frozen.compile(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    before = copy_of(frozen.generator.variables), copy_of(frozen.discriminator.non_trainable_variables)
    logs = frozen.train_step(batch)
    assert same(before[0], frozen.generator.variables)
    assert same(before[1], frozen.discriminator.non_trainable_variables)
    assert set(logs) == set(frozen.logs)


def test_d_off_logs_no_d(model):
    batch = tuple(tf.random.stateless_normal((2, 128, 128, c), (3, c)) for c in (2, 1))
    l1_only = small(adversarial_weight=0)
    l1_only.compile()
    logs = l1_only.train_step(batch)
    assert "d_loss" not in logs
    assert float(logs["g_loss"]) == pytest.approx(100 * float(logs["g_l1"]), rel=1e-5)


# ---- features --------------------------------------------------------------------------------------------------------


def test_front_end():
    assert [log_mel(tf.zeros([n])).shape[0] for n in (20832, 20480, 512, 511)] == [128, 125, 1, 0]
    matrix = signal.mel_matrix(128, 1024, 16000, 125.0, 7500.0)
    assert matrix.shape == (513, 128) and np.all(matrix.sum(0) > 0)
    with pytest.warns(UserWarning, match="1 of 128 mel bands"):
        assert np.flatnonzero(signal.mel_matrix(128, 512, 16000, 125.0, 7500.0).sum(0) == 0).tolist() == [0]
    tone = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000).astype(np.float32)
    louder = log_mel(10 * tone) - log_mel(tone)
    peak = int(tf.argmax(log_mel(tone)[20]))
    assert float(louder[20, peak]) == pytest.approx(np.log(10), abs=1e-3)  # natural logarithm of a magnitude
    np.testing.assert_allclose(log_mel(np.zeros(512, np.float32)), np.log(fsegan.MEL["floor"]), rtol=1e-6)
    with pytest.raises(ValueError, match="sample_rate is 8000 Hz; .*resample"):
        log_mel(tone, 8000)


@pytest.mark.parametrize("frames, windows", [(127, 0), (128, 1), (192, 2), (300, 3)])
def test_training_windows_overlap_by_half(model, frames, windows):
    n = 512 + 160 * (frames - 1)
    wav = tf.random.stateless_normal((n,), (4, 4))
    noisy, clean = model.preprocess(wav, 0.5 * wav)
    assert noisy.shape == (windows, 128, 128, 2) and clean.shape == (windows, 128, 128, 1)
    if windows:
        np.testing.assert_allclose(noisy[..., :1] - clean, np.log(2), atol=1e-4)
        np.testing.assert_array_equal(noisy[-1, :, :, 1], log_mel(wav)[64 * (windows - 1) :][:128])


def test_statistics_normalise_every_band(sound):
    for channels in (1, 2):
        model = small(in_channels=channels)
        noisy, clean = model.preprocess(*map(tf.constant, sound))
        clean = tf.concat([clean] * channels, -1)
        model.adapt([(noisy, clean)])
        pooled = tf.concat([model.normalise(noisy), model.normalise(clean)], 0).numpy()
        assert np.max(np.abs(pooled.mean((0, 1, 3)))) < 1e-3
        assert np.max(np.abs(pooled.std((0, 1, 3)) - 1)) < 1e-3
    model.adapt([(tf.zeros((1, 128, 128, 1)), tf.zeros((1, 128, 128, 1)))])
    np.testing.assert_allclose(model.std, fsegan.STD_FLOOR)


def test_fit_takes_the_statistics_once(sound):
    model = FSEGAN(in_channels=1, filters=2, d_filters=2, adversarial_weight=0)
    model.compile()
    batch = model.preprocess(*map(tf.constant, sound))
    dataset = tf.data.Dataset.from_tensor_slices(batch).batch(2)
    model.fit(dataset, epochs=1, verbose=0, validation_data=dataset)
    mean = np.array(model.mean)
    assert np.all(mean != 0)
    model.fit(tf.data.Dataset.from_tensor_slices((batch[0] + 1, batch[1])).batch(2), epochs=1, verbose=0)
    np.testing.assert_array_equal(model.mean, mean)


@pytest.mark.parametrize("hop, windows", [(128, 3), (64, 4)])
def test_inference_windows(hop, windows):
    seen = []
    model = small(in_channels=1, window_hop=hop)

    def generator(x, training):
        seen.append(x)
        return x

    model.generator = generator
    features = np.random.default_rng(0).normal(size=(300, 128)).astype(np.float32)
    enhanced = model.enhance_windows(tf.constant(features)[..., None])
    assert seen[0].shape == (windows, 128, 128, 1)
    np.testing.assert_allclose(enhanced, features, atol=1e-5)
    last = seen[0][-1, :, :, 0] * model.std + model.mean
    start = hop * (windows - 1)
    np.testing.assert_allclose(last[300 - start :], np.tile(features[-1], (128 - (300 - start), 1)), atol=1e-5)


def test_enhance_features_gives_one_frame_per_frame(model, sound):
    features = log_mel(sound[0])
    enhanced = model.enhance_features(features)
    assert enhanced.shape == features.shape and enhanced.dtype == np.float32
    np.testing.assert_allclose(model.enhance_features([features, features]), enhanced, atol=1e-5)  # mono twice is stereo
    assert model.enhance_features(features[:1]).shape == (1, 128)
    with pytest.raises(ValueError, match=r"shape \(20, 40\); expected \(frames, 128\)"):
        model.enhance_features(np.zeros((20, 40)))
    with pytest.raises(ValueError, match="2 channels; this model reads 1"):
        small(in_channels=1).enhance_features([features, features])


# ---- stereo ----------------------------------------------------------------------------------------------------------


def test_stereo_pairs_reach_both_inputs_and_train(sound):
    noisy, clean = sound
    left_right = tf.stack([noisy, 0.1 * noisy], axis=1)
    model = small()
    model.compile()
    windows, target = model.preprocess(left_right, tf.constant(clean))
    np.testing.assert_array_equal(windows[0, ..., 0], log_mel(noisy)[:128])
    np.testing.assert_array_equal(windows[0, ..., 1], log_mel(0.1 * noisy)[:128])
    assert np.isfinite(float(model.train_step((windows, target))["g_loss"]))
    with pytest.raises(ValueError, match="2 channels; this model reads 1"):
        small(in_channels=1).preprocess(left_right, tf.constant(clean))


def test_a_stereo_recording_is_enhanced_by_both_channels_at_once():
    model = small()
    model.generator = lambda x, training: x[..., :1]  # the answer is the left channel
    rng = np.random.default_rng(0)
    right = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    enhanced = model.enhance(np.stack([0.1 * right, right], axis=1))
    assert enhanced.shape == (16000, 2) and enhanced.dtype == np.float32
    np.testing.assert_allclose(enhanced[:, 1], 0.1 * right, atol=2e-3)  # turned down to the left one's level
    assert model.enhance(np.zeros((1, 2), np.float32), 44100).shape == (1, 2)
    mono = model.enhance(np.stack([right] * 3, axis=1))  # three channels: one after the other
    np.testing.assert_allclose(mono[:, 2], right, atol=1e-5)


def test_long_stereo_is_cut_into_windows():
    model = small()
    model.generator = lambda x, training: x[..., :1]
    model.window, model.overlap = 16000, 1600
    wav = (0.1 * np.random.default_rng(1).standard_normal((40000, 2))).astype(np.float32)
    wav[:, 1] = wav[:, 0]
    np.testing.assert_allclose(model.enhance(wav), wav, atol=1e-5)


# ---- sound -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 511, 20001])
def test_an_identity_generator_gives_the_sound_back(n):
    model = small(in_channels=1)
    model.generator = lambda x, training: x
    wav = (0.1 * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
    np.testing.assert_allclose(model.enhance(wav), wav, atol=1e-5)


def test_gains_turn_down_but_never_up(sound):
    model = small(in_channels=1)
    for shift, gain in ((-np.log(2.0), 0.5), (np.log(2.0), 1.0)):  # G answers 6 dB below or above its input
        model.generator = lambda x, training, shift=shift: x + shift / 3.0
        np.testing.assert_allclose(FSEGAN.enhance_wave(model, sound[0]), gain * sound[0], atol=1e-4)
        model._trackers.graphs.clear()


def test_the_best_answer_raises_the_snr(sound):
    """Gains from the clean log-mel itself: how far this way of listening can get."""
    noisy, clean = sound
    model = small(in_channels=1)
    target = signal.log_mel(clean, centred=True, **fsegan.STFT, **fsegan.MEL)
    model.enhance_windows = lambda features: target
    enhanced = model.enhance(noisy)

    def snr(x):
        return 10 * np.log10(np.sum(clean**2) / np.sum((x - clean) ** 2))

    assert snr(noisy) == pytest.approx(5.0, abs=1.5)
    assert snr(enhanced) > snr(noisy) + 3.0


@pytest.mark.parametrize("wrong, words", [
    ({"in_channels": 3}, "use 2 or 1"), ({"decisions": 7}, "use 8"), ({"window_hop": 0}, "1 to 128"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_the_fix(wrong, words):
    with pytest.raises(ValueError, match=words):
        small(**wrong)
