"""CP-GAN: the acceptance facts of the reconstruction."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import layers
from ganse_tf.models import cpgan
from ganse_tf.models.cpgan import CPGAN, cut, worst_segment_loss
from tests.common import CommonSuite, batch_of, copy_of, same, trainable


def small(**kwargs):
    """Three blocks instead of five."""
    sizes = dict(segment=1024, channels=(4, 6, 8), growth=4, pyramid=4, lengths=(256, 512), d_widths=(4, 8, 8),
                 local_widths=(4, 4, 8))  # fmt: skip
    return CPGAN(**{**sizes, **kwargs})


def shape(network, layer):
    return network.get_layer(layer).output.shape[1:]


class TestCPGAN(CommonSuite):
    paper_model = CPGAN
    paper_counts = {"generator": 14_514_401, "discriminator": 24_375_217, "local_discriminator": 1_679_049}
    small = staticmethod(small)
    overfit_steps = 60


def test_with_the_input_skip_an_untrained_generator_leaves_the_sound_alone():
    x = tf.random.stateless_uniform((2, 1024, 1), seed=(1, 2), minval=-1.0)
    np.testing.assert_array_equal(small(input_skip=True).generator(x), tf.tanh(x))
    assert np.abs(small().generator(x) - tf.tanh(x)).max() > 0.01


def test_shapes_of_the_pyramid_and_of_both_discriminators():
    model = CPGAN()
    widths = ((8192, 32), (4096, 64), (2048, 128), (1024, 256), (512, 512))
    for i, expected in enumerate(widths):
        assert shape(model.generator, f"block{i + 1}_down") == expected
        assert shape(model.generator, f"lateral{i + 1}") == (expected[0], 128)
    assert shape(model.generator, "block1_join4") == (16384, 160)
    assert shape(model.generator, "block5_join4") == (1024, 384)
    assert [x.shape[1:] for x in model.generator.get_layer("maps").input] == [(4096, 128)] * 4
    sums = [layer.output.shape[1:] for layer in model.generator.layers if isinstance(layer, keras.layers.Add)]
    assert sums == [(1024, 128), (2048, 128), (4096, 128), (8192, 128)]  # P4, P3, P2, head: no P1
    assert shape(model.generator, "fuse") == (4096, 128)
    assert model.generator.output_shape == (None, 16384, 1)
    assert model.discriminator.get_layer("conv10_leaky").output.shape == (None, 8, 1024)
    for length in (2048, 4096, 8192):
        pair = tf.zeros((2, length, 1))
        assert model.local_discriminator([pair, pair]).shape == (2, 1)


def test_parameter_count_of_a_thinner_generator():
    assert trainable(cpgan.build_generator(growth=16)) == 10_767_777


def test_all_ten_arcs_of_a_dense_block():
    model = small(growth=3)
    names = ("conv1", "conv2", "conv3", "conv4", "down")
    kernels = [model.generator.get_layer(f"block2_{name}").kernel.shape for name in names]
    assert [k[1] for k in kernels] == [4, 7, 10, 13, 16]  # inputs: all that came before
    assert [k[2] for k in kernels] == [3, 3, 3, 3, 6]


def test_upsampling_is_linear_with_half_pixel_centres():
    np.testing.assert_allclose(layers.upsample(tf.constant([[[0.0], [4.0]]]), 2)[0, :, 0], [0, 1, 3, 4])
    ramp = tf.reshape(tf.range(6.0), [1, 6, 1])
    for factor in (2, 4, 8):
        up = layers.upsample(ramp, factor)[0, :, 0].numpy()
        centres = np.clip((np.arange(6 * factor) + 0.5) / factor - 0.5, 0, 5)
        np.testing.assert_allclose(up, centres, atol=1e-6)
    x = tf.random.stateless_normal((2, 7, 3), seed=(1, 2))
    image = tf.image.resize(x[:, :, None], (28, 1), method="bilinear")[:, :, 0]
    np.testing.assert_allclose(layers.upsample(x, 4), image, atol=1e-5)
    assert layers.upsample(x, 1) is x


def logit(p):
    p = tf.constant(p)
    return tf.math.log(p / (1 - p))


def test_worst_segment_loss_in_closed_form():
    p = [[0.9, 0.2, 0.5], [0.4, 0.8, 0.6]]
    np.testing.assert_allclose(worst_segment_loss(logit(p)), [1.609438, 0.916291], atol=1e-5)
    np.testing.assert_allclose(worst_segment_loss(tf.constant([[2.0, -1.0, 0.5]])), [1.313262], atol=1e-5)
    _, terms = small().generator_loss(tf.zeros(3), tf.zeros(3), (tf.zeros((2, 1)), logit(p)))
    assert float(terms["g_local"]) == pytest.approx(1.262864, abs=1e-5)  # minimum per utterance, then the mean
    _, terms = small(local_reduction="mean").generator_loss(tf.zeros(3), tf.zeros(3), (tf.zeros((2, 1)), logit(p)))
    assert float(terms["g_local"]) == pytest.approx(-np.log(p).mean(), abs=1e-5)


def test_only_the_worst_segment_of_each_utterance_gets_a_gradient():
    p = tf.Variable([[0.9, 0.2, 0.5], [0.4, 0.8, 0.6]])
    with tf.GradientTape() as tape:
        loss = worst_segment_loss(tf.math.log(p / (1 - p)))
    np.testing.assert_allclose(tape.gradient(loss, p), [[0, -5, 0], [-2.5, 0, 0]], atol=1e-4)
    model = small(global_weight=0.0, local_weight=1.0, l1_weight=0.0)
    noisy, enhanced = (tf.random.stateless_normal((2, 1024, 1), seed=(i, 2)) for i in range(2))
    with tf.GradientTape() as tape:
        tape.watch(enhanced)
        fake = model.judge(enhanced, noisy, 100, 256)
        loss = model.generator_loss(enhanced, enhanced, fake)[0]
    felt = np.abs(np.roll(tape.gradient(loss, enhanced)[..., 0], -100, axis=1)).reshape(2, 4, 256).sum(-1) > 0
    np.testing.assert_array_equal(np.argmax(felt, 1), np.argmin(fake[1], 1))
    np.testing.assert_array_equal(felt.sum(1), [1, 1])


def test_losses_when_both_d_say_nothing():
    model, zeros = small(), (tf.zeros((2, 1)), tf.zeros((2, 4)))
    total, terms = model.discriminator_loss(zeros, zeros)
    assert float(terms["d_global"]) == float(terms["d_local"]) == pytest.approx(1.386294, abs=1e-5)
    assert float(total) == pytest.approx(2.772589, abs=1e-5)
    total, _ = model.generator_loss(tf.zeros(3), tf.zeros(3), zeros)
    assert float(total) == pytest.approx(1.386294, abs=1e-5)
    total, _ = model.generator_loss(tf.zeros(3), tf.fill([3], 0.01), zeros)
    assert float(total) == pytest.approx(2.386294, abs=1e-5)


def test_segments_are_cut_side_by_side_and_alike():
    x = tf.random.stateless_normal((2, 16384, 1), seed=(1, 2))
    segments = cut(x, 777, 4096)
    assert segments.shape == (8, 4096, 1)
    np.testing.assert_array_equal(np.roll(tf.reshape(segments[:4], [-1]), 777), x[0, :, 0])
    np.testing.assert_array_equal(segments[0, :, 0], x[0, 777:4873, 0])
    model, seen = small(), []

    def spy(pair, training=False):
        seen.append([part.numpy() for part in pair])
        return tf.zeros((pair[0].shape[0], 1))

    model.local_discriminator = spy
    noisy = tf.random.stateless_normal((3, 1024, 1), seed=(3, 4))
    whole, local = model.judge(noisy, noisy, 5, 512)
    assert whole.shape == (3, 1) and local.shape == (3, 2)
    np.testing.assert_array_equal(*seen[0])


def test_length_and_offset_are_drawn_anew_and_repeat_from_the_same_step():
    model, draws = small(), []
    for step in range(40):
        model.step.assign(step)
        draws.append(tuple(int(x) for x in model.draw_cut()))
    assert {length for _, length in draws} == {256, 512}
    assert all(0 <= offset < 1024 for offset, _ in draws) and len(set(draws)) > 30
    model.step.assign(7)
    assert tuple(int(x) for x in model.draw_cut()) == draws[7]
    assert small(lengths=(512,)).draw_cut()[1] == 512


def test_one_step_trains_with_every_length_in_one_graph():
    model = small()
    model.compile()
    batch = batch_of(model, 2)
    step = tf.function(model.train_step)
    for _ in range(4):
        assert np.isfinite(float(step(batch)["g_local"]))
    assert step.experimental_get_tracing_count() == 1


def test_the_two_discriminators_do_not_share_a_gradient():
    model = small()
    noisy, clean = (tf.random.stateless_normal((2, 1024, 1), seed=(i, 2)) for i in range(2))
    with tf.GradientTape(persistent=True) as tape:
        _, terms = model.discriminator_loss(model.judge(clean, noisy, 0, 256), model.judge(noisy, noisy, 0, 256))
    of_global, of_local = model.discriminator.trainable_variables, model.local_discriminator.trainable_variables
    for loss, own, other in (("d_global", of_global, of_local), ("d_local", of_local, of_global)):
        assert all(np.any(g) for g in tape.gradient(terms[loss], own))
        assert all(g is None for g in tape.gradient(terms[loss], other))


@pytest.mark.parametrize("weight, idle", [("local_weight", "local_discriminator"), ("global_weight", "discriminator")])
def test_each_discriminator_can_be_left_out(weight, idle):
    model = small(**{weight: 0.0})
    model.compile()
    before = copy_of(getattr(model, idle).variables)
    used = model.network_variables("discriminator")
    moving = copy_of(used)
    assert np.isfinite(float(model.train_step(batch_of(model, 2))["g_loss"]))
    assert same(before, getattr(model, idle).variables) and not same(moving, used)


def test_g_step_leaves_the_local_discriminator_alone():
    model = small()
    g_optimizer, d_optimizer = model.default_optimizers()
    d_optimizer.learning_rate = 0.0
    model.compile(g_optimizer, d_optimizer)
    before = copy_of(model.local_discriminator.variables)
    model.train_step(batch_of(model, 2))
    assert same(before, model.local_discriminator.variables)


@pytest.mark.parametrize("inference", ["crossfade", "blocks"])
@pytest.mark.parametrize("n", [1, 511, 1024, 1025, 20000])
def test_identity_generator_returns_the_input(n, inference):
    model = small(inference=inference)
    model.generator = lambda frames, training=False: frames
    wav = (0.3 * np.random.default_rng(0).standard_normal(n)).astype(np.float32)
    np.testing.assert_allclose(model.enhance(wav), wav, atol=1e-5)
    model = small(inference=inference, emphasis=0.0)
    model.generator = lambda frames, training=False: frames
    np.testing.assert_allclose(model.enhance_segment(tf.constant(wav)), wav, atol=1e-6)


@pytest.mark.parametrize("n, slices", [(16383, 0), (16384, 1), (24575, 1), (24576, 2), (40960, 4)])
def test_slices_per_utterance(n, slices):
    noisy, clean = CPGAN.preprocess(small_with_paper_segment(), tf.zeros(n), tf.zeros(n))
    assert noisy.shape == clean.shape == (slices, 16384, 1)


def small_with_paper_segment():
    return small(segment=16384, lengths=(2048,))


def test_wrong_arguments_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="multiple of 32 .*: try 16384"):
        CPGAN(segment=16390)
    with pytest.raises(ValueError, match="divide the segment"):
        small(lengths=(300,))
    with pytest.raises(ValueError, match="'min' or 'mean'"):
        small(local_reduction="max")
    with pytest.raises(ValueError, match="crossfade"):
        small(inference="whole")
    with pytest.raises(ValueError, match="nothing to learn"):
        small(l1_weight=0.0, adversarial_weight=0.0)
    with pytest.raises(ValueError, match="one length"):
        small().compile(jit_compile=True)
