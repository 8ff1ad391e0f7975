"""cGAN: the acceptance facts of the paper, of the code it builds on, and of batch norm on a single point."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data
from ganse_tf.models import cgan
from ganse_tf.models.cgan import CGAN, concatenate, to_patches
from tests.common import CommonSuite, copy_of, same, trainable


def small(**kwargs):
    return CGAN(**{"filters": 2, "d_filters": 2, **kwargs})


def example(size=1, seed=0):
    """A random training pair of patches in [-1, 1]."""
    return tuple(tf.random.stateless_uniform((size, 256, 256, 1), (seed, i), -1.0, 1.0) for i in range(2))


class TestCGAN(CommonSuite):
    paper_model = CGAN
    paper_counts = {"generator": 85_013_185, "discriminator": 4_831_041}
    small = staticmethod(lambda **kwargs: small(filters=4, g_steps=1, **kwargs))  # tracing two G steps takes seconds
    batch_size = 1
    overfit_to = 0.85
    overfit_steps = 70


def test_options_in_numbers():
    model = CGAN(backbone="pix2pix", disc="patch")
    assert trainable(model.generator) == 54_413_313
    assert trainable(model.discriminator) == 2_765_505
    assert model.generator.output_shape == (None, 256, 256, 1)
    assert model.discriminator.output_shape == (None, 30, 30, 1)
    assert not any(layer.name == "e8_bn" for layer in model.generator.layers)


def test_shapes_of_the_paper_network():
    model = CGAN()
    sizes = [model.generator.get_layer(f"e{i}").output.shape[1:] for i in range(1, 9)]
    assert sizes == [(128, 128, 64), (64, 64, 128), (32, 32, 256), (16, 16, 512), (8, 8, 512), (4, 4, 512), (2, 2, 512),
                     (1, 1, 512)]  # fmt: skip
    assert model.generator.get_layer("d7_skip").output.shape == (None, 128, 128, 128)
    assert model.discriminator.get_layer("conv3").output.shape == (None, 32, 32, 512)  # the last stride is 1
    assert model.discriminator.output_shape == (None, 1)
    assert sum(v.shape[0] for v in model.generator.non_trainable_variables) == 10_880
    assert trainable(CGAN.tiny().generator) == 5_317_297


def test_layers_of_one_size_start_with_different_weights_and_a_seed_repeats_them():
    keras.utils.set_random_seed(1)
    g = small().generator
    for one, other in (("e5", "e6"), ("d2", "d3")):
        assert not np.array_equal(g.get_layer(one).kernel, g.get_layer(other).kernel)
    assert float(np.std(g.get_layer("d2").kernel)) == pytest.approx(0.02, rel=0.05)
    keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(g.get_layer("d2").kernel, small().generator.get_layer("d2").kernel)


def test_losses_in_closed_form():
    model = small()
    zeros = tf.zeros((2, 1))
    assert float(model.discriminator_loss(zeros, zeros)) == pytest.approx(1.386294, abs=1e-5)
    real, fake = tf.constant([[0.0], [2.0]]), tf.constant([[0.0], [-2.0]])
    clean = tf.zeros((1, 256, 256, 1))
    assert float(model.discriminator_loss(real, fake)) == pytest.approx(0.820075, abs=1e-5)
    assert float(model.generator_loss(clean, clean, zeros)[0]) == pytest.approx(0.693147, abs=1e-5)
    assert float(model.generator_loss(clean, clean, fake)[0]) == pytest.approx(1.410038, abs=1e-5)
    total, terms = model.generator_loss(clean, clean + 0.02, fake)
    assert float(total) == pytest.approx(1.410038 + 2.0, abs=1e-4)
    assert float(terms["g_l1"]) == pytest.approx(0.02, abs=1e-6)


# ---- batch norm on one point -----------------------------------------------------------------------------------------


def gradient_norms(model, batch_size):
    noisy, clean = example(batch_size)
    with tf.GradientTape() as tape:
        loss = model.generator_loss(clean, model.generate(noisy, draw=1))[0]
    kernels = {name: model.generator.get_layer(name).kernel for name in ("e7", "e8", "d1", "d2", "d3")}
    return {name: float(tf.norm(g)) for name, g in zip(kernels, tape.gradient(loss, list(kernels.values())))}


def test_batch_norm_of_one_point_is_beta():
    norm = small().generator.get_layer("e8_bn")
    norm.beta.assign(tf.range(16.0))
    x = tf.random.stateless_normal((1, 1, 1, 16), seed=(1, 1))
    np.testing.assert_allclose(norm(x, training=True)[0, 0, 0], np.arange(16), atol=1e-6)


def test_with_batch_1_the_bottleneck_gets_no_gradient():
    keras.utils.set_random_seed(1)
    norms = gradient_norms(small(), 1)
    assert norms["e8"] == norms["d1"] == 0.0 and norms["e7"] > 0 and norms["d3"] > 0
    norms = gradient_norms(small(), 4)
    assert min(norms.values()) > 0
    norms = gradient_norms(small(bn_bottleneck=False), 1)
    assert min(norms.values()) > 0


def test_with_batch_1_a_fifth_of_the_weights_never_moves():
    model = small()
    model.compile()
    before = {v.path: v.numpy() for v in model.generator.trainable_variables}
    for seed in range(2):
        model.train_step(example(seed=seed))
    still = {v.path.split("/")[0] for v in model.generator.trainable_variables if np.all(v.numpy() == before[v.path])}
    assert still == {"e8", "e8_bn", "d1", "d1_bn"}
    kernel, old = model.generator.get_layer("d2").kernel.numpy(), before["d2/kernel"]  # (5, 5, out, in)
    np.testing.assert_array_equal(kernel[..., :16], old[..., :16])  # the half that hears d1
    assert not np.array_equal(kernel[..., 16:], old[..., 16:])


def test_moving_averages_at_the_bottleneck_amplify():
    model = small(bn_stats="moving")
    norm = model.generator.get_layer("e8_bn")
    x = tf.random.stateless_normal((1, 1, 1, 16), seed=(1, 2))
    for _ in range(300):
        norm(x, training=True)  # the variance of one point is 0, and the average follows
    y = norm(x + 0.01, training=False) - norm(x, training=False)
    np.testing.assert_allclose(y, 0.01 * 316.2, rtol=1e-2)


# ---- the algorithm ---------------------------------------------------------------------------------------------------


def test_d_learns_once_and_g_twice():
    model = small()
    model.compile()
    model.train_step(example())
    assert int(model.d_optimizer.iterations) == 1
    assert int(model.g_optimizer.iterations) == 2
    assert int(model.step) == 1


def test_a_d_step_leaves_every_number_of_g_alone_and_a_g_step_those_of_d():
    model = small()
    g_optimizer, d_optimizer = model.default_optimizers()
    g_optimizer.learning_rate = 0.0
    model.compile(g_optimizer, d_optimizer)
    before = copy_of(model.generator.variables), copy_of(model.discriminator.non_trainable_variables)
    model.train_step(example())
    assert same(before[0], model.generator.variables)
    assert same(before[1], model.discriminator.non_trainable_variables)


def test_dropout_is_new_in_every_pass_and_the_same_after_a_restart():
    model = small()
    noisy, _ = example()
    first, second = model.generate(noisy, 1), model.generate(noisy, 2)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, model.generate(noisy, 1))
    model.step.assign_add(1)
    assert not np.array_equal(first, model.generate(noisy, 1))


def test_inference_repeats_itself_unless_dropout_stays_on():
    wav = (0.1 * np.random.default_rng(0).standard_normal(20000)).astype(np.float32)
    keras.utils.set_random_seed(1)
    plain = small()
    np.testing.assert_array_equal(plain.enhance(wav), plain.enhance(wav))
    noisy = small(test_dropout=True)
    assert not np.array_equal(noisy.enhance(wav), noisy.enhance(wav))


def test_patches_are_enhanced_one_by_one():
    model = small()
    patches = example(3)[0]
    together = model.enhance_patches(patches)
    np.testing.assert_array_equal(together[1], model.enhance_patches(patches[1:2])[0])


# ---- spectrograms ----------------------------------------------------------------------------------------------------


def test_65792_samples_are_one_patch_and_300_frames_two():
    model = small()
    wav = tf.random.stateless_normal((65792,), seed=(3, 3))
    assert cgan.PATCH == 65792
    noisy, clean = model.preprocess(wav, 0.5 * wav)
    assert noisy.shape == clean.shape == (1, 256, 256, 1)
    assert float(tf.reduce_max(noisy)) == pytest.approx(1.0)
    assert float(tf.reduce_max(clean)) == pytest.approx(0.0, abs=1e-5)  # half the noisy maximum, not its own
    patches = to_patches(tf.random.stateless_uniform((300, 256), (1, 2)))
    assert patches.shape == (2, 256, 256, 1)
    assert np.all(patches[1, 300 - 256 :] == -1.0) and np.all(patches[1, : 300 - 256] >= 0)


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_scales_and_their_inverse(scale):
    model = small(scale=scale)
    mag, ref = tf.constant([0.0, 0.001, 0.5, 2.0, 3.0]), 2.0
    v = model.to_network(mag, ref)
    if scale == "linear":
        np.testing.assert_allclose(v, [-1, -0.999, -0.5, 1, 1], atol=1e-6)
    else:  # 0.001 / 2 = -66.02 dB, 0.25 = -12.04 dB
        np.testing.assert_allclose(v, [-1, 1 - 66.0206 / 40, 1 - 12.0412 / 40, 1, 1], atol=1e-4)
    np.testing.assert_allclose(model.from_network(v, ref)[1:], [0.001, 0.5, 2, 2], rtol=1e-3)


@pytest.mark.parametrize("scale, n", [("linear", 65792), ("log", 65792), ("linear", 100_001), ("linear", 300)])
def test_an_identity_generator_gives_the_sound_back(scale, n):
    model = small(scale=scale)
    model.generator = lambda inputs, training=False: inputs[0]
    t = np.arange(n) / 16000
    wav = (0.2 * np.sin(2 * np.pi * 440 * t) + 0.1 * np.sin(2 * np.pi * 7000 * t)).astype(np.float32)
    wav *= np.hanning(n).astype(np.float32)  # no clicks at the ends: they reach the dropped bin at 8 kHz
    error = model.enhance(wav) - wav
    assert 10 * np.log10(np.sum(wav**2) / np.sum(error**2)) > 40


def test_the_top_bin_is_dropped_or_kept():
    nyquist = (0.1 * (-1.0) ** np.arange(16000)).astype(np.float32)  # 8 kHz
    for top_bin, level in (("zero", 0.0), ("noisy", 0.1)):
        model = small(top_bin=top_bin)
        model.generator = lambda inputs, training=False: -tf.ones_like(inputs[0])  # everything below is silence
        middle = np.abs(model.enhance(nyquist))[4000:12000]
        assert np.mean(middle) == pytest.approx(level, abs=0.04)  # the window smears half of it into the 256th bin


def test_concatenate_cuts_all_speech_in_a_row():
    pairs = data.toy_pairs("train", n=8, snr_db=(10,))
    total = sum(len(pair.clean) for pair in pairs)
    joined = concatenate(pairs)
    assert len(joined) == 1 + (total - 65792) // 65536
    assert all(noisy.shape == clean.shape == (65792,) for noisy, clean in joined)
    np.testing.assert_array_equal(joined[0][0][65536:], joined[1][0][:256])  # neighbours share half a frame's hop
    first = cgan.magnitude(joined[0][0])[: len(pairs[0].noisy) // 256 - 2]
    assert float(tf.reduce_max(first)) == pytest.approx(1.0, abs=1e-5)
    ratio = joined[0][1][5000] / joined[0][0][5000]
    assert ratio == pytest.approx(pairs[0].clean[5000] / pairs[0].noisy[5000], rel=1e-4)  # one factor for both sides
    with pytest.raises(ValueError, match="one patch needs 65792"):
        concatenate(pairs[:1])


@pytest.mark.parametrize("wrong, words", [
    ({"backbone": "unet"}, "yenchenlin"), ({"disc": "patchgan"}, "patch"), ({"scale": "db"}, "log"),
    ({"bn_stats": "batch"}, "moving"), ({"top_bin": "drop"}, "zero"), ({"g_steps": 0}, "at least one step"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_the_fix(wrong, words):
    with pytest.raises(ValueError, match=words):
        small(**wrong)
