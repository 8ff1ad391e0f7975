"""SEGAN: the acceptance facts of the paper and its authors' code."""

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from ganse_tf import layers, signal
from ganse_tf.models.segan import EMPHASIS, SEGAN, from_float
from tests.common import CommonSuite, copy_of, same, trainable


def small(**kwargs):
    return SEGAN(**{"segment": 1024, "widths": (8, 16, 16), **kwargs})


class TestSEGAN(CommonSuite):
    paper_model = SEGAN
    paper_counts = {"generator": 73_100_049, "discriminator": 24_373_081}
    small = staticmethod(small)
    overfit_steps = 60


def test_parameter_counts_without_convolution_biases():
    model = SEGAN(use_bias=False)
    assert trainable(model.generator) == 73_096_048
    assert trainable(model.discriminator) == 24_370_569


def test_paper_shapes_range_and_initial_slopes():
    model = SEGAN()
    noisy = tf.random.stateless_uniform((2, 16384, 1), seed=(1, 2), minval=-1.0)
    z = tf.random.stateless_normal((2, 8, 1024), seed=(3, 4))
    enhanced = model.generator([noisy, z])
    assert enhanced.shape == (2, 16384, 1)
    assert float(tf.reduce_max(tf.abs(enhanced))) < 0.2  # small weights at the start
    assert model.discriminator([enhanced, noisy]).shape == (2, 1)
    slopes = [w for layer in model.generator.layers if "prelu" in layer.name for w in layer.get_weights()]
    assert sum(w.size for w in slopes) == 4000
    assert all(np.all(w == 0) for w in slopes)


def test_losses_in_closed_form():
    d_real, d_fake = tf.constant([[1.0], [0.0]]), tf.constant([[0.5], [-0.5]])
    clean, enhanced = tf.zeros((2, 8, 1)), tf.fill((2, 8, 1), 0.01)
    for half, d_value, g_value in ((True, 0.375, 0.625), (False, 0.75, 1.25)):
        model = small(half_factors=half)
        assert float(model.discriminator_loss(d_real, d_fake)) == pytest.approx(d_value, abs=1e-6)
        total, terms = model.generator_loss(clean, enhanced, d_fake)
        assert float(terms["g_adv"]) == pytest.approx(g_value, abs=1e-6)
        assert float(total) == pytest.approx(g_value + 1.0, abs=1e-5)  # 100 * 0.01 adds exactly 1


def test_emphasis_and_int16_scale():
    emphasised = signal.preemphasis(tf.constant([[1.0, 1, 1, 0]]), EMPHASIS)
    np.testing.assert_allclose(emphasised[0], [1, 0.05, 0.05, -0.95], atol=1e-6)
    back = scipy.signal.lfilter([1.0], [1.0, -0.95], [1, 0.05, 0.05, -0.95])
    np.testing.assert_allclose(back, [1, 1, 1, 0], atol=1e-12)
    for sample, expected in ((-32768, -1.0), (0, 1.5259e-5), (32767, 1.0)):
        assert from_float(sample / 32768) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("n, slices", [(16383, 0), (16384, 1), (24575, 1), (24576, 2), (40960, 4)])
def test_slices_per_utterance(n, slices):
    model = SEGAN.tiny()
    noisy, clean = model.preprocess(tf.zeros(n), tf.zeros(n))
    assert noisy.shape == clean.shape == (slices, 16384, 1)


@pytest.mark.parametrize("n", [1, 1024, 1025, 40000])
def test_identity_generator_returns_the_input(n):
    model = small()
    model.generator = lambda inputs, training=False: inputs[0]
    wav = (0.3 * np.random.default_rng(0).standard_normal(n)).clip(-1, 1).astype(np.float32)
    enhanced = model.enhance(wav)
    assert enhanced.shape == (n,)
    np.testing.assert_allclose(enhanced, wav, atol=1e-5)


def test_fixed_reference_is_saved_and_used(tmp_path):
    model = small(reference="fixed", reference_size=3)
    model.compile()
    rng = np.random.default_rng(0)
    noisy, clean = (rng.standard_normal((3, 1024, 1)).astype(np.float32) for _ in range(2))
    model.set_reference(noisy, clean)
    model.train_step((tf.constant(noisy), tf.constant(clean)))
    model.save_weights(tmp_path / "m.weights.h5")
    again = small(reference="fixed", reference_size=3)
    again.compile()
    again.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(again.reference, model.reference)
    norm = model.discriminator.get_layer("vbn0")
    assert isinstance(norm, layers.VirtualBatchNorm)
    assert float(norm.reference_size) == 3
    with pytest.raises(ValueError, match="current"):
        small().set_reference(noisy, clean)


def test_z_can_be_left_out_and_changes_the_output_when_used():
    without, with_z = small(use_z=False), small()
    wav = 0.1 * np.ones(1024, np.float32)
    assert without.enhance(wav).shape == (1024,)
    before = with_z.enhance(wav)
    with_z.step.assign(7)
    assert not np.array_equal(before, with_z.enhance(wav))


def test_a_step_of_g_alone_leaves_virtual_batch_norm_alone():
    model = small(adversarial_weight=0.0)
    model.compile()
    before = copy_of(model.discriminator.variables)
    x = tf.zeros((2, 1024, 1))
    model.train_step((x, x))
    assert same(before, model.discriminator.variables)


def test_wrong_segment_is_refused_with_the_fix():
    with pytest.raises(ValueError, match="multiple of 2\\^11"):
        SEGAN(segment=16000)
