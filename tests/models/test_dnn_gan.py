"""DNN-GAN: the acceptance facts of the paper."""

import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, layers, signal
from ganse_tf.models import dnn_gan
from ganse_tf.models.dnn_gan import DNNGAN
from tests.common import CommonSuite, copy_of, same, trainable

COUNTS = {  # (use_z, bn_position): trainable of G, all of G, trainable of D, all of D
    (True, "input"): (5_542_605, 5_549_349, 15_907_493, 15_921_625),
    (False, "input"): (4_742_405, 4_748_549, 13_673_493, 13_686_825),
    (True, "pre_activation"): (5_542_927, 5_549_993, 15_906_849, 15_920_337),
    (False, "pre_activation"): (4_742_927, 4_749_593, 13_672_449, 13_684_737),
}


def small(**kwargs):
    return DNNGAN(**{"units": 64, **kwargs})


def compiled(**kwargs):
    model = small(**kwargs)
    model.compile()
    return model


def random_batch(n=12, seed=0):
    rng = np.random.default_rng(seed)
    shape = (n, dnn_gan.CONTEXT * dnn_gan.BINS)
    return tf.constant(rng.random(shape), tf.float32), tf.constant(rng.uniform(-1, 1, shape), tf.float32)


class TestDNNGAN(CommonSuite):
    paper_model = DNNGAN
    paper_counts = {"generator": 5_542_605, "discriminator": 15_907_493}
    small = staticmethod(small)
    batch_size = 12
    overfit_steps = 200


@pytest.mark.parametrize("use_z, bn_position", COUNTS)
def test_parameter_counts(use_z, bn_position):
    g = dnn_gan.build_generator(1124 if use_z else 1024, 100 if use_z else 0, bn_position=bn_position)
    d = dnn_gan.build_discriminator(2248 if use_z else 2048, bn_position)
    assert (trainable(g), g.count_params(), trainable(d), d.count_params()) == COUNTS[use_z, bn_position]


def test_paper_widths_follow_z():
    for use_z, units in ((True, 1124), (False, 1024)):
        model = DNNGAN(use_z=use_z)
        assert model.generator.get_layer("dense0").units == units
        assert model.discriminator.get_layer("dense0").units == 2 * units


def test_shapes_and_ranges():
    model = small()
    noisy, target = random_batch(3)
    estimate = model.generator(model.with_z(noisy))
    assert estimate.shape == (3, 1285)
    assert float(tf.reduce_max(tf.abs(estimate))) < 1
    assert model.discriminator([estimate, noisy]).shape == (3, 1)
    assert model.discriminator.get_layer("score").activation(tf.constant(-7.0)) == -7.0  # unbounded
    for kind, low, high in (("smm", 0, np.inf), ("irm", 0, 1), ("stft", 0, np.inf)):
        model = small(target=kind)
        values = model.generator(model.with_z(10 * noisy - 5)).numpy()
        assert low <= values.min() < values.max() <= high


def test_scaled_mask_and_its_inverse():
    model = small()
    clean, noisy = tf.constant([[1.0, 2, 30, 0]]), tf.constant([[2.0, 1, 1, 4]])
    scaled = model.encode(tf.cast(noisy, tf.complex64), tf.cast(clean, tf.complex64))
    np.testing.assert_allclose(scaled, [[-0.9, -0.6, 1.0, -1.0]], atol=1e-6)
    np.testing.assert_allclose(model.decode(scaled, noisy), [[1, 2, 10, 0]], atol=1e-5)


def test_losses_in_closed_form():
    d_real, d_fake = tf.constant([[1.0], [0.5]]), tf.constant([[0.0], [0.5]])
    assert float(small().discriminator_loss(d_real, d_fake)) == pytest.approx(0.1275 - 0.0225)  # 0.105
    assert float(small(real_label=1.0).discriminator_loss(d_real, d_fake)) == pytest.approx(0.125)
    target = tf.zeros((2, 1285))
    total, terms = small().generator_loss(target, target + 0.1, d_fake)
    assert float(terms["g_adv"]) == pytest.approx(0.3125)
    assert float(total) == pytest.approx(10.3125, abs=1e-5)
    total, _ = small(adversarial_weight=0.0, l1_weight=0.0, l2_weight=1.0).generator_loss(target, target + 0.1)
    assert float(total) == pytest.approx(0.01)
    # the remark of the paper, 0.81, is a least-squares loss without its half, label 0.9, where D says 0
    _, terms = small(g_label=0.9).generator_loss(target, target, tf.zeros((2, 1)))
    assert 2 * float(terms["g_adv"]) == pytest.approx(0.81)


def test_eight_frames_are_averaged_over_the_windows_that_hold_them():
    model = small(use_z=False, target="smm")
    frames = tf.reshape(tf.range(8.0), [8, 1]) * tf.ones([1, 257])
    cut = dnn_gan.windows(frames)
    assert cut.shape == (4, 1285)
    np.testing.assert_array_equal(cut[1, ::257], [1, 2, 3, 4, 5])  # frame after frame
    seen = []

    def one_window_says_one(inputs, training=False):
        seen.append(inputs[0].shape)
        return tf.concat([tf.ones_like(inputs[0][:1]), tf.zeros_like(inputs[0][1:])], 0)

    model.generator = one_window_says_one
    spec_frames = []
    model.decode = lambda estimate, mag: spec_frames.append(estimate) or mag
    model.enhance_segment(tf.random.stateless_normal([7 * 256], seed=(1, 2)))
    assert seen == [(4, 1285)]
    np.testing.assert_allclose(spec_frames[0][:, 0], [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 0, 0, 0], atol=1e-6)


@pytest.mark.parametrize("target, value", [("scaled_smm", -0.8), ("smm", 1.0), ("irm", 1.0)])
@pytest.mark.parametrize("n", [1, 300, 1024, 1025, 40000])
def test_mask_of_ones_returns_the_input(target, value, n):
    model = small(target=target)
    model.generator = lambda inputs, training=False: tf.fill(tf.shape(inputs[0]), value)
    wav = (0.3 * np.random.default_rng(0).standard_normal(n)).astype(np.float32)
    np.testing.assert_allclose(model.enhance(wav), wav, atol=2e-6)


@pytest.mark.parametrize("target", ["scaled_smm", "smm", "stft"])
def test_perfect_estimate_gives_the_clean_magnitude(target):
    model = small(target=target)
    noisy, clean, _ = data.toy_pairs("valid", n=1, snr_db=(0,), kinds=("pink",))[0].load()
    specs = [signal.stft(wav, **dnn_gan.STFT) for wav in (noisy, clean)]
    clean_mag, noisy_mag = signal.magnitude(specs[1]).numpy(), signal.magnitude(specs[0])
    enhanced = model.decode(model.encode(*specs), noisy_mag).numpy()
    kept = clean_mag <= 10 * noisy_mag.numpy()
    assert kept.mean() > 0.99
    assert np.abs(enhanced - clean_mag)[kept].max() < 1e-4 * clean_mag.max()


@pytest.mark.parametrize("n, count", [(1, 0), (1023, 0), (1024, 1), (1025, 2), (16000, 60)])
def test_windows_per_utterance(n, count):
    noisy, target = small().preprocess(tf.zeros(n), tf.zeros(n))
    assert noisy.shape == target.shape == (count, 1285)


def test_one_step_is_two_updates_of_d_on_windows_of_their_own_and_one_of_g():
    model = compiled()
    model.train_step(random_batch())
    assert (int(model.d_optimizer.iterations), int(model.g_optimizer.iterations)) == (2, 1)
    noisy, target = random_batch(7)
    parts = model.minibatches(noisy, target)
    assert [len(x) for x, _ in parts] == [3, 3, 3]
    rows = np.concatenate([x for x, _ in parts])
    np.testing.assert_array_equal(rows, np.concatenate([noisy, noisy[:2]]))  # every window once, then from the start
    assert [len(x) for x, _ in compiled(adversarial_weight=0.0).minibatches(noisy, target)] == [7]


def test_each_update_leaves_every_variable_of_the_other_network_alone():
    model = compiled()
    minimise, states = model.minimise, []

    def watched(tape, loss, network):
        norm = minimise(tape, loss, network)
        states.append((network, copy_of(model.generator.variables), copy_of(model.discriminator.variables)))
        return norm

    model.minimise = watched
    g_start = copy_of(model.generator.variables)  # with the moving averages of batch norm
    model.train_step(random_batch())
    assert [state[0] for state in states] == ["discriminator", "discriminator", "generator"]
    _, g_after_d, d_after_d = states[1]
    assert same(g_start, g_after_d)
    assert same(d_after_d, model.discriminator.variables)
    assert not same(g_start, model.generator.variables)


def test_moving_averages_move_only_in_the_own_step():
    def averages(network):
        return [v for v in network.non_trainable_variables if "moving" in v.path]

    model = compiled()
    g_before, d_before = copy_of(averages(model.generator)), copy_of(averages(model.discriminator))
    assert len(g_before) == len(d_before) == 6
    model.train_step(random_batch())
    assert not same(g_before, averages(model.generator))
    d_after = copy_of(averages(model.discriminator))
    assert not same(d_before, d_after)
    without_d = compiled(adversarial_weight=0.0)
    before = copy_of(without_d.discriminator.variables)
    without_d.train_step(random_batch())
    assert same(before, without_d.discriminator.variables)


def test_z_is_an_input_of_g_only_and_can_be_left_out():
    model = small()
    noisy, target = random_batch(4)
    z = tf.Variable(tf.random.stateless_normal((4, 100), seed=(1, 2)))
    with tf.GradientTape(persistent=True) as tape:
        estimate = tf.reduce_sum(model.generator([noisy, z]))
        score = tf.reduce_sum(model.discriminator([target, noisy]))
    assert float(tf.reduce_max(tf.abs(tape.gradient(estimate, z)))) > 0
    assert tape.gradient(score, z) is None

    wav = 0.1 * np.sin(np.arange(8000) / 5).astype(np.float32)
    first = model.enhance(wav)
    np.testing.assert_array_equal(first, model.enhance(wav))  # z is seeded
    model.step.assign(3)
    assert not np.array_equal(first, model.enhance(wav))
    without = small(use_z=False)
    assert len(without.generator.inputs) == 1
    first = without.enhance(wav)
    without.step.assign(3)
    np.testing.assert_array_equal(first, without.enhance(wav))


def test_dropout_is_drawn_anew_in_every_call_and_repeats_from_the_same_step():
    model = compiled()
    layer = next(layer for layer in model.generator.layers if isinstance(layer, layers.DrawnDropout))
    ones = tf.ones((64, 64))
    first, second = layer(ones, training=True).numpy(), layer(ones, training=True).numpy()
    assert not np.array_equal(first, second)
    assert set(np.unique(first)) == {0.0, np.float32(1.25)}
    assert np.mean(first == 0) == pytest.approx(0.2, abs=0.04)
    np.testing.assert_array_equal(layer(ones, training=False), ones)


    def step_from(step):
        model = compiled()
        model.set_weights(start)
        model.step.assign(step)
        return float(model.train_step(batch)["g_loss"])

    start, batch = model.get_weights(), random_batch()
    assert step_from(5) == step_from(5) != step_from(6)


def test_fit_normalises_by_the_statistics_of_the_training_set():
    model = compiled(adversarial_weight=0.0)
    noisy, target = random_batch(40)
    dataset = tf.data.Dataset.from_tensor_slices((3 * noisy + 2, target)).batch(10)
    model.fit(dataset, epochs=1, verbose=0)
    frames = (3 * noisy + 2).numpy().reshape(-1, 257)
    np.testing.assert_allclose(model.mean, frames.mean(0), rtol=1e-4)
    np.testing.assert_allclose(model.std, frames.std(0), rtol=1e-4)
    x = model.normalise(3 * noisy + 2).numpy().reshape(-1, 257)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(0), 1, atol=1e-4)
    kept = copy_of([model.mean, model.std])
    model.fit(dataset.map(lambda a, b: (9 * a, b)), epochs=1, verbose=0)  # statistics stay with the first data
    assert same(kept, [model.mean, model.std])


def test_wrong_arguments_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="'scaled_smm' or 'smm' or 'irm' or 'stft'"):
        DNNGAN(target="psm")
    with pytest.raises(ValueError, match="pre_activation"):
        DNNGAN(bn_position="output")
    with pytest.raises(ValueError, match="nothing to learn"):
        DNNGAN(l1_weight=0, adversarial_weight=0)
    with pytest.raises(ValueError, match="adversarial_weight=0"):
        DNNGAN(d_steps=0)


@pytest.mark.parametrize("bn_position", ["input", "pre_activation"])
@pytest.mark.parametrize("target, start", [("scaled_smm", -0.9), ("smm", 0.5), ("irm", 0.5), ("stft", 0.5)])
def test_estimates_start_at_a_mask_of_one_half(target, start, bn_position):
    generator = small(target=target, use_z=False, bn_position=bn_position).generator
    generator.get_layer("dense_out").kernel.assign(tf.zeros((64, 1285)))
    np.testing.assert_allclose(generator(random_batch(3)[0], training=False), start, atol=2e-3)
