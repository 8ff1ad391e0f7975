"""UNetGAN: the acceptance facts of the paper (layer table, losses, decimation, interpolation, any length)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, layers
from ganse_tf.models.unetgan import TEST_SNRS_DB, TRAIN_SNRS_DB, Decimate, UNetGAN
from tests.common import CommonSuite, copy_of, same, trainable


def small(**kwargs):
    return UNetGAN(**{"segment": 1024, "levels": 2, "channels": 4, "d_filters": (4, 8, 8), **kwargs})


@pytest.fixture(scope="module")
def paper():
    return UNetGAN()


class TestUNetGAN(CommonSuite):
    paper_model = UNetGAN
    paper_counts = {"generator": 3_046_273, "discriminator": 659_009}
    small = staticmethod(small)
    overfit_steps = 150


def test_moving_statistics_and_the_final_skip_in_numbers(paper):
    assert sum(v.shape[0] for v in paper.generator.non_trainable_variables) == 4_608
    assert sum(v.shape[0] for v in paper.discriminator.non_trainable_variables) == 896
    assert trainable(UNetGAN(final_input_skip=True).generator) == 3_046_274
    assert trainable(UNetGAN.tiny().generator) == 340_098  # said in tiny()'s docstring


def test_with_the_final_skip_an_untrained_generator_leaves_the_sound_alone():
    x = tf.random.stateless_uniform((2, 1024, 1), seed=(1, 2), minval=-1.0)
    for training in (False, True):
        np.testing.assert_array_equal(small(final_input_skip=True).generator(x, training=training), tf.tanh(x))


def test_paper_shapes(paper):
    x = tf.random.stateless_uniform((2, 16384, 1), seed=(1, 2), minval=-1.0)
    names = [f"down{i}_leaky" for i in range(8)] + ["middle2_leaky", "enhanced"]
    probe = keras.Model(paper.generator.input, [paper.generator.get_layer(n).output for n in names])
    *skips, bottleneck, enhanced = probe(x)
    assert [tuple(s.shape[1:]) for s in skips] == [
        (16384, 24), (8192, 48), (4096, 72), (2048, 96), (1024, 120), (512, 144), (256, 168), (128, 192)
    ]  # fmt: skip
    assert bottleneck.shape == (2, 64, 192)
    assert enhanced.shape == x.shape and float(tf.reduce_max(tf.abs(enhanced))) <= 1.0
    assert paper.discriminator([x, x]).shape == (2, 2048, 1)
    assert paper.generator(tf.zeros((1, 4096, 1))).shape == (1, 4096, 1)


def test_slopes_and_dilations(paper):
    leaky = [la for net in (paper.generator, paper.discriminator) for la in net.layers if "leaky" in la.name]
    assert len(leaky) == 8 + 3 + 8 + 3
    assert {la.negative_slope for la in leaky} == {0.1}
    assert [paper.generator.get_layer(f"middle{i}").dilation_rate for i in range(3)] == [(1,), (2,), (4,)]
    assert all(la.strides == (1,) for la in paper.generator.layers if isinstance(la, keras.layers.Conv1D))


def test_a_wrong_length_is_refused_with_the_fix(paper):
    with pytest.raises(ValueError, match="received 4100 samples.*multiple of 256"):
        paper.generator(tf.zeros((1, 4100, 1)))


def test_decimation_keeps_even_steps_and_interpolation_is_half_pixel():
    x = tf.constant([1.0, 2.0, 3.0, 4.0])[None, :, None]
    np.testing.assert_array_equal(Decimate(0, 1)(x)[0, :, 0], [1, 3])
    up = layers.upsample(tf.constant([0.0, 4.0, 8.0, 4.0])[None, :, None], 2)
    np.testing.assert_allclose(up[0, :, 0], [0, 1, 3, 5, 7, 7, 5, 4], atol=1e-6)
    y = tf.random.stateless_normal((2, 10, 3), seed=(5, 6))
    expected = tf.image.resize(y[:, :, None], (20, 1), method="bilinear")[:, :, 0]
    np.testing.assert_allclose(layers.upsample(y, 2), expected, atol=1e-6)


def view(model):
    """How many input samples the middle of the bottleneck depends on."""
    middle = model.generator.get_layer("middle2_leaky").output
    down = keras.Model(model.generator.input, middle)
    x = tf.Variable(tf.random.stateless_normal((1, 16384, 1), seed=(7, 8)))
    with tf.GradientTape() as tape:
        y = tf.reduce_sum(down(x, training=False)[:, 32])
    used = np.flatnonzero(np.array(tape.gradient(y, x))[0, :, 0])
    return used[-1] - used[0] + 1


def test_receptive_field_of_the_bottleneck(paper):
    assert view(paper) == 7155  # 1 + 14 * 255 + 14 * 256 samples, 447 ms
    assert view(UNetGAN(dilations=(1, 1, 1))) == 5107  # three kernels of 3 without dilation see 6 steps more, not 14


def test_one_decision_of_d_sees_106_samples():
    d = small(d_filters=(4, 4, 4)).discriminator
    x = tf.Variable(tf.random.stateless_normal((1, 1024, 1), seed=(9, 1)))
    with tf.GradientTape() as tape:
        y = d([x, tf.zeros((1, 1024, 1))], training=False)[0, 64, 0]
    used = np.flatnonzero(np.array(tape.gradient(y, x))[0, :, 0])
    assert used[-1] - used[0] + 1 == 106


def test_losses_in_closed_form():
    def logit(p):
        return tf.fill((1, 8, 1), float(np.log(p / (1 - p))))

    literal, usual = small(adv_mode="saturating"), small()
    zeros = tf.zeros((1, 8, 1))
    assert float(usual.discriminator_loss(zeros, zeros)) == pytest.approx(1.386294, abs=1e-5)
    assert float(usual.discriminator_loss(logit(0.9), logit(0.2))) == pytest.approx(0.328504, abs=1e-5)
    silence = tf.zeros((1, 4, 1))
    assert float(literal.generator_loss(silence, silence, zeros)[0]) == pytest.approx(-0.693147, abs=1e-5)
    assert float(usual.generator_loss(silence, silence, zeros)[0]) == pytest.approx(0.693147, abs=1e-5)
    clean = tf.constant([0.5, -0.5, 0.25, 0.0])[None, :, None]
    enhanced = tf.constant([0.0, 0.0, 0.25, 1.0])[None, :, None]
    total, terms = literal.generator_loss(clean, enhanced, logit(0.2))
    assert float(terms["g_l2"]) == pytest.approx(0.375, abs=1e-6)
    assert float(total) == pytest.approx(7.276856, abs=1e-4)
    assert float(usual.generator_loss(clean, enhanced, logit(0.2))[0]) == pytest.approx(9.109438, abs=1e-4)


@pytest.mark.parametrize("d_says, saturating, usual", [(0.5, 0.5, 0.5), (0.001, 0.001, 0.999)])
def test_the_printed_loss_gives_no_gradient_where_d_is_sure(d_says, saturating, usual):
    logits = tf.Variable([[[np.log(d_says / (1 - d_says))]]], dtype=tf.float32)
    for mode, size in (("saturating", saturating), ("nonsaturating", usual)):
        with tf.GradientTape() as tape:
            loss = small(adv_mode=mode).generator_loss(tf.zeros((1, 8, 1)), tf.zeros((1, 8, 1)), logits)[0]
        assert float(tape.gradient(loss, logits)[0, 0, 0]) == pytest.approx(-size, rel=1e-3)  # both push D's score up


def test_saturating_step_trains():
    model = small(adv_mode="saturating")
    model.compile()
    x = tf.random.stateless_normal((4, 1024, 1), seed=(2, 3)) * 0.1
    before = copy_of(model.generator.trainable_variables)
    logs = model.train_step((x, 0.5 * x))
    assert float(logs["g_adv"]) < 0  # log(1 - D) is never positive
    assert not same(before, model.generator.trainable_variables)


def test_a_step_changes_nothing_in_d_but_its_weights():
    model = small()
    model.compile()
    before = copy_of(model.discriminator.non_trainable_variables)
    x = tf.random.stateless_normal((4, 1024, 1), seed=(2, 3))
    model.train_step((x, 0.5 * x))
    assert same(before, model.discriminator.non_trainable_variables)


@pytest.mark.parametrize("n", [1, 255, 256, 3001])
def test_whole_and_chunked_inference_with_an_identity_generator(n):
    wav = (0.3 * np.random.default_rng(0).standard_normal(n)).astype(np.float32)
    for inference in ("whole", "chunked"):
        model = small(inference=inference)
        model.generator = lambda x, training=False: x
        np.testing.assert_array_equal(model.enhance(wav), wav)


def test_whole_inference_has_no_seams_and_chunked_has():
    keras.utils.set_random_seed(3)
    whole, chunked = small(), small(inference="chunked")
    chunked.generator.set_weights(whole.generator.get_weights())
    wav = (0.3 * np.random.default_rng(1).standard_normal(4096)).astype(np.float32)
    a, b = whole.enhance(wav), chunked.enhance(wav)
    alike = np.abs(a - b) < 1e-6
    assert alike[300:700].all()  # inside a segment the neighbours are out of sight
    assert not alike[1024 - 8 : 1024 + 8].all()  # at a seam they are not
    np.testing.assert_allclose(whole.enhance(wav[:2048])[:1500], a[:1500], atol=1e-6)  # the future is no further away


def test_preprocess_cuts_the_same_places_from_both_sides():
    model = small()
    wav = tf.random.stateless_normal((3000,), seed=(4, 4))
    noisy, clean = model.preprocess(wav, wav)
    assert noisy.shape == (2, 1024, 1)
    np.testing.assert_array_equal(noisy, clean)
    assert model.preprocess(wav[:1023], wav[:1023])[0].shape[0] == 0


def test_random_crops_are_the_same_for_both_sides_and_new_in_every_epoch():
    model = small()
    pairs = [(p.clean, p.clean) for p in data.toy_pairs("train", n=4)]
    batches = data.examples(pairs, model, batch_size=4, crop_seconds=1024 / 16000)
    epochs = [next(iter(batches))]
    model.step.assign_add(1)  # what training does; the order and the crops follow (seed, step)
    epochs.append(next(iter(batches)))
    for noisy, clean in epochs:
        assert noisy.shape == (4, 1024, 1)
        np.testing.assert_array_equal(noisy, clean)
    assert not np.array_equal(np.sort(epochs[0][0], axis=0), np.sort(epochs[1][0], axis=0))


def test_mixing_at_the_papers_levels():
    s, n = np.array([1.0, -1, 1, -1]), np.array([2.0, 2, -2, -2])
    for snr_db, alpha in ((0, 0.5), (-20, 5.0)):
        _, clean, facts = data.mix(s, n, snr_db, details=True)
        assert facts["gain"] / facts["scale"] == pytest.approx(alpha)
        assert np.max(np.abs(clean)) < 1  # mixture and clean go down together instead of clipping


def test_experiment_sizes():
    speech, seen, unseen = {"train": 600, "valid": 50, "test": 100}, 4, 1
    assert speech["train"] * seen * len(TRAIN_SNRS_DB) == 9_600 == 64 * 150
    assert speech["test"] * (seen + unseen) * len(TEST_SNRS_DB) == 4_500
    assert speech["valid"] * (seen + unseen) * len(TEST_SNRS_DB) == 2_250


@pytest.mark.parametrize("wrong, words", [
    ({"segment": 1000}, "multiple of 2\\^4 = 16"), ({"adv_mode": "wgan"}, "nonsaturating"),
    ({"inference": "blocks"}, "chunked"),
])  # fmt: skip
def test_wrong_arguments_are_refused_with_the_fix(wrong, words):
    with pytest.raises(ValueError, match=words):
        small(**{"levels": 4, **wrong})
