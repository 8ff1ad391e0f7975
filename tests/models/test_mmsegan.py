"""MMSE-GAN: the acceptance facts of the paper; the filterbank's golden values are in test_gammatone.py."""

import math

import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, metrics, signal
from ganse_tf.models import mmsegan
from ganse_tf.models.mmsegan import MMSEGAN
from tests.common import CommonSuite, batch_of, copy_of, same


def small(**kwargs):
    return MMSEGAN(**{"units": 16, **kwargs})


class TestMMSEGAN(CommonSuite):
    paper_model = MMSEGAN
    paper_counts = {"generator": 788_032, "discriminator": 559_105}
    small = staticmethod(small)
    batch_size = 12
    overfit_steps = 60


def test_no_other_parameters_than_dense_layers():
    model = MMSEGAN()
    assert model.generator.count_params() == 788_032  # nothing that is not trainable: no batch norm
    assert model.discriminator.count_params() == 559_105
    assert [layer.units for layer in model.generator.layers if hasattr(layer, "units")] == [512, 512, 512, 64]
    assert model.generator.input_shape == [(None, 448), (None, 64)]


def test_losses_in_closed_form():
    model = small()
    zeros = tf.zeros((3, 1))
    assert float(model.discriminator_loss(zeros, zeros)) == pytest.approx(2 * math.log(2), abs=1e-6)
    frames = tf.zeros((3, 64))
    total, terms = model.generator_loss(frames, frames, zeros)
    assert float(terms["g_adv"]) == float(total) == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("noisy, mask, clean, expected", [
    ([1, math.e], [0.5, 0.5], [0.5, math.e / 2], 0.0), ([1, 1], [1 / math.e, 1 - 1e-7], [1, 1], 0.25),
])  # fmt: skip
def test_squared_error_is_of_the_masked_frame_and_a_mean_over_channels(noisy, mask, clean, expected):
    model = small(mode="dnn")
    log_enhanced = tf.math.log(tf.constant([noisy], tf.float32)) + tf.math.log(tf.constant([mask], tf.float32))
    total, _ = model.generator_loss(tf.math.log(tf.constant([clean], tf.float32)), log_enhanced)
    assert float(total) == pytest.approx(expected, abs=1e-6)


def test_mask_layer_multiplies_the_raw_noisy_frame():
    model = small()
    rng = np.random.default_rng(0)
    context = rng.standard_normal((5, 448)).astype(np.float32)
    log_noisy = rng.uniform(-9, 2, (5, 64)).astype(np.float32)
    mask, log_enhanced = model.generator([context, log_noisy])
    assert 0 < float(tf.reduce_min(mask)) < float(tf.reduce_max(mask)) < 1
    np.testing.assert_allclose(np.exp(log_enhanced), np.exp(log_noisy) * mask, rtol=1e-4)
    moved_mask, moved = model.generator([context, log_noisy + 1])
    np.testing.assert_array_equal(moved_mask, mask)  # the raw frame scales the output, it does not steer the mask
    np.testing.assert_allclose(moved, log_enhanced + 1, atol=1e-5)


def test_log_mask_is_finite_and_has_a_gradient_where_the_sigmoid_is_zero():
    model = small()
    layer = model.generator.get_layer("mask_logits")
    layer.bias.assign(tf.fill([64], -200.0))
    with tf.GradientTape() as tape:
        mask, log_enhanced = model.generator([tf.zeros((1, 448)), tf.zeros((1, 64))])
        loss, _ = model.generator_loss(tf.zeros((1, 64)), log_enhanced)
    assert float(tf.reduce_max(mask)) == 0.0
    np.testing.assert_allclose(log_enhanced, -200, atol=1e-3)
    np.testing.assert_allclose(tape.gradient(loss, layer.bias), -200 / 64, rtol=1e-3)


def test_context_repeats_the_edges_and_keeps_the_order_of_frames():
    frames = tf.constant([[1.0], [2.0], [3.0]]) * tf.ones([1, 64])
    x = mmsegan.contexts(frames).numpy().reshape(3, 7, 64)[..., 0]
    normal = {1: x[1, 0], 2: x[1, 3], 3: x[1, 5]}
    np.testing.assert_array_equal(x[0], [normal[i] for i in (1, 1, 1, 1, 2, 3, 3)])
    np.testing.assert_array_equal(x[1], [normal[i] for i in (1, 1, 1, 2, 3, 3, 3)])


def test_input_is_normalised_by_one_mean_and_one_deviation_per_utterance():
    rng = np.random.default_rng(0)
    log_noisy = (rng.standard_normal((50, 64)) * np.linspace(1, 3, 64) - 5).astype(np.float32)
    centre = mmsegan.contexts(log_noisy).numpy().reshape(50, 7, 64)[:, 3]
    expected = (log_noisy - log_noisy.mean()) / log_noisy.std(ddof=1)
    np.testing.assert_allclose(centre, expected, atol=1e-4)
    assert np.all(np.isfinite(mmsegan.contexts(tf.fill([5, 64], -18.4))))  # digital silence


@pytest.mark.parametrize("n, frames", [(1, 0), (319, 0), (320, 1), (479, 1), (480, 2), (16000, 99)])
def test_frames_per_utterance(n, frames):
    context, log_noisy, log_clean = small().preprocess(tf.zeros(n), tf.zeros(n))
    assert context.shape == (frames, 448)
    assert log_noisy.shape == log_clean.shape == (frames, 64)


def test_digital_silence_has_a_floor():
    _, log_noisy, log_clean = small().preprocess(tf.zeros(1000), tf.zeros(1000))
    np.testing.assert_allclose(np.exp(log_noisy), 1e-5, rtol=1e-4)
    np.testing.assert_array_equal(log_noisy, log_clean)


def test_golden_value_through_pre_emphasis():
    sine = tf.sin(2 * np.pi * 1500 * tf.range(16000.0) / 16000)
    _, log_noisy, _ = small().preprocess(sine, sine)
    assert int(tf.argmax(log_noisy[50])) == 34
    assert float(tf.exp(log_noisy[50, 34])) == pytest.approx(0.2528293704, rel=1e-4)


def test_mask_of_ones_returns_speech_in_level_and_time():
    model = small()
    model.generator.get_layer("mask_logits").bias.assign(tf.fill([64], 50.0))
    wav = data.toy_corpus("valid")[0].wav
    enhanced = model.enhance(wav)
    assert metrics.si_sdr(wav, enhanced, 16000) > 25
    assert metrics.snr(wav, enhanced, 16000) > 25  # also the level
    assert metrics.si_sdr(wav[1:], enhanced[:-1], 16000) < 15  # a sample late would be heard


def test_modes_switch_terms():
    batch = batch_of(small(), 4)
    context, log_noisy, log_clean = batch
    vgan = small(mode="vgan")
    with tf.GradientTape() as tape:
        _, log_enhanced = vgan.generator([context, log_noisy])
        tape.watch(log_enhanced)
        total, terms = vgan.generator_loss(log_clean, log_enhanced, tf.zeros((4, 1)))
    assert tape.gradient(total, log_enhanced) is None  # the squared error is logged, not learnt
    assert float(terms["g_l2"]) > 0

    dnn = small(mode="dnn")
    dnn.compile()
    dnn.discriminator = None  # must not be needed
    assert "d_loss" not in dnn.train_step(batch)
    for mode, terms in (("mmse-gan", {"g_adv", "g_l2"}), ("vgan", {"g_adv"}), ("dnn", {"g_l2"})):
        model = small(mode=mode)
        model.compile()
        logs = model.train_step(batch)
        weights = {"g_adv": model.adversarial_weight, "g_l2": model.l2_weight}
        assert {name for name, weight in weights.items() if weight} == terms
        assert float(logs["g_loss"]) == pytest.approx(sum(w * float(logs[k]) for k, w in weights.items()), rel=1e-5)


def test_d_sees_single_standardised_frames():
    model = small()
    model.mean.assign(-5.0)
    model.std.assign(2.0)
    seen = []
    model.discriminator = lambda x, training: seen.append(x) or x[:, :1]
    model.judge(tf.fill((3, 64), -1.0))
    assert seen[0].shape == (3, 64)
    np.testing.assert_allclose(seen[0], 2.0)


def test_fit_takes_the_statistics_of_clean_frames_once():
    model = small()
    model.compile()
    pairs = data.toy_pairs("train", n=2, snr_db=(5,))
    dataset = data.examples(pairs, model, batch_size=50)
    model.fit(dataset, epochs=1, verbose=0)
    values = np.concatenate([log_clean for _, _, log_clean in dataset])
    assert float(model.mean) == pytest.approx(values.mean(), rel=1e-4)
    assert float(model.std) == pytest.approx(values.std(), rel=1e-4)
    before = copy_of([model.mean, model.std])
    model.fit(data.examples(pairs[:1], model, batch_size=50), epochs=1, verbose=0)
    assert same(before, [model.mean, model.std])


def test_ideal_mask_in_the_loop_raises_the_score():
    """The front and back end are worth learning for: the mask min(c / h, 1) lifts SI-SDR by many dB."""
    noisy, clean, _ = data.toy_pairs("valid", n=1, snr_db=(0,), kinds=("pink",))[0].load()
    noisy_bands = mmsegan.bands(noisy)
    log_noisy, log_clean = mmsegan.log_frames(noisy_bands), mmsegan.log_frames(mmsegan.bands(clean))
    mask = tf.exp(tf.minimum(log_clean - log_noisy, 0.0))
    enhanced = signal.deemphasis(signal.gammatone_synthesis(noisy_bands, mask), mmsegan.EMPHASIS).numpy()
    assert metrics.si_sdr(clean, enhanced, 16000) > metrics.si_sdr(clean, noisy, 16000) + 5


def test_wrong_arguments_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="'mmse-gan' or 'vgan' or 'dnn'"):
        MMSEGAN(mode="gan")
    with pytest.raises(ValueError, match='use "mmse-gan"'):
        MMSEGAN(mode="dnn", adversarial_weight=1.0)
    with pytest.raises(ValueError, match='use mode="dnn"'):
        MMSEGAN(mode="vgan", adversarial_weight=0)
