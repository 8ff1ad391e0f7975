"""GANPostfilter: the acceptance facts of the paper, the bands' joining, and the measures of over-smoothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, oversmooth
from ganse_tf.models.postfilter import (
    BANDS,
    GANPostfilter,
    build_discriminator,
    build_generator,
    join_weights,
    merge,
    partition,
)
from tests.common import CommonSuite, trainable

SMALL_BANDS = ((1, 20), (17, 32))  # 32 bins; the two share 4


def small(**kwargs):
    sizes = dict(n_fft=64, win_length=64, hop_length=32, bands=SMALL_BANDS, g_filters=(4, 6), d_filters=(4, 6),
                 frames=16, crop=8, griffin_lim=1)  # fmt: skip
    return GANPostfilter(**{**sizes, **kwargs})


class TestGANPostfilter(CommonSuite):
    paper_model = GANPostfilter
    paper_counts = {"generator": 6_632_552, "discriminator": 17_538_308}
    small = staticmethod(small)
    overfit_to = 0.95  # a learning rate of 1e-4, on an input that has nothing to do with over-smoothing
    overfit_steps = 60


def noise(*shape, seed=0):
    return tf.constant(np.random.default_rng(seed).standard_normal(shape), tf.float32)


def test_one_band_of_the_paper():
    g = build_generator(320)
    assert trainable(g) == 1_658_138
    assert g([noise(2, 3, 320, 1), noise(2, 3, 320, 1)]).shape == (2, 3, 320, 1)
    assert g([noise(1, 7, 320, 1), noise(1, 7, 320, 1)]).shape == (1, 7, 320, 1)
    for width, conditional, count in ((320, True, 4_388_673), (320, False, 4_387_073), (256, True, 4_372_289),
                                      (256, False, 4_370_689)):  # fmt: skip
        d = build_discriminator(width, conditional=conditional)
        assert trainable(d) == count
        assert d.output_shape == (None, 1)


def test_a_new_generator_returns_its_input():
    y = noise(1, 9, 32, 1)
    for piece, same in zip(small().generator([y, noise(1, 9, 32, 1, seed=1)]), partition(y, SMALL_BANDS)):
        np.testing.assert_array_equal(piece, same)


def test_residual_sees_seventeen_by_seventeen():
    keras.utils.set_random_seed(0)
    g = build_generator(40, filters=(8, 8, 8))
    g.get_layer("residual").kernel.assign(noise(5, 5, 9, 1))
    y, z = np.array(noise(1, 40, 40, 1)), noise(1, 40, 40, 1, seed=1)
    before = g([tf.constant(y), z])
    y[0, 20, 20] += 100.0
    changed = np.argwhere(np.array(g([tf.constant(y), z]) - before)[0, ..., 0])
    assert changed.min() >= 12 and changed.max() <= 28
    assert np.ptp(changed, axis=0).min() > 12  # more than three convolutions reach


def test_cut_and_join_is_the_identity():
    spec = noise(1, 3, 1024, 1)
    pieces = partition(spec)
    assert [p.shape[2] for p in pieces] == [320, 320, 320, 256]
    np.testing.assert_allclose(merge(pieces), spec, atol=1e-6)
    mean, std = noise(1024, 1, seed=1), tf.abs(noise(1024, 1, seed=2))
    first = merge([p * s + m for p, s, m in zip(pieces, *(partition(v[None, None]) for v in (std, mean)))])
    np.testing.assert_allclose(first, merge(pieces) * std + mean, atol=1e-5)


def test_halves_of_the_window():
    ones = merge(partition(tf.ones((1, 1, 1024, 1))), normalise=False)[0, 0, :, 0]
    ridge = np.flatnonzero(np.abs(ones - 1.08) < 1e-5) + 1  # bins, counted from 1
    expected = [k for first in (257, 513, 769) for k in range(first, first + 64)]
    assert ridge.tolist() == expected
    assert np.all(np.delete(np.array(ones), ridge - 1) == 1.0)
    low, high = join_weights(BANDS)[:2]
    np.testing.assert_allclose(low[-64:] + high[:64], 1.0, atol=1e-6)
    assert low[-64] == pytest.approx(0.92593, abs=1e-5) and high[0] == pytest.approx(0.07407, abs=1e-5)


def test_losses_in_closed_form():
    model, zero = small(), tf.zeros((2, 2))
    pieces = [tf.zeros((1, 2, 3, 1))] * 2
    off = [tf.fill((1, 2, 3, 1), 0.5)] * 2
    assert float(model.discriminator_loss(zero, zero)) == pytest.approx(1.386294, abs=1e-6)
    total, terms = model.generator_loss(pieces, off, zero)
    assert float(total) == pytest.approx(0.693147, abs=1e-6)  # the paper has no L1 term
    assert float(terms["g_l1"]) == pytest.approx(0.5)
    d_real, d_fake = tf.constant([[0.0], [2.0]]), tf.constant([[0.0], [-2.0]])
    assert float(model.discriminator_loss(d_real, d_fake)) == pytest.approx(0.820075, abs=1e-6)
    assert float(model.generator_loss(pieces, off, d_fake)[0]) == pytest.approx(1.410038, abs=1e-6)
    assert float(small(l1_weight=2.0).generator_loss(pieces, off, zero)[0]) == pytest.approx(1.693147, abs=1e-6)
    assert float(small(adversarial_weight=0.0).generator_loss(pieces, off)[0]) == pytest.approx(0.5)


def test_bands_share_nothing():
    model = small()
    y, z = noise(1, 16, 32, 1), noise(1, 16, 32, 1, seed=1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(model.generator([y, z])[1]))
    gradients = tape.gradient(loss, model.generator.trainable_variables)
    assert len(model.generator.trainable_variables) == 2 * 6
    assert sum(g is not None for g in gradients) == 6


def test_crops_are_of_the_same_frames_and_move_with_the_step():
    model, starts = small(), set()
    ramp = tf.reshape(tf.range(16.0), (1, 16, 1, 1))
    for step in range(12):
        model.step.assign(step)
        one, other = model.random_crop(tf.constant(16))([ramp, 2 * ramp])
        assert one.shape[1] == 8
        np.testing.assert_array_equal(2 * one, other)
        starts.add(int(one[0, 0, 0, 0]))
    assert len(starts) > 3 and min(starts) >= 0 and max(starts) <= 8


def test_statistics_come_from_natural_speech_and_are_saved(tmp_path):
    model = small()
    model.compile()
    x = 3.0 * noise(4, 16, 32) - 5.0
    dataset = tf.data.Dataset.from_tensor_slices((tf.zeros_like(x), x)).batch(2)
    model.fit(dataset, epochs=1, verbose=0)
    found = np.array(model.normalise(x))
    assert abs(found.mean()) < 1e-4 and found.std() == pytest.approx(1.0, abs=1e-3)
    model.save_weights(tmp_path / "m.weights.h5")
    again = small()
    again.compile()
    again.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(again.mean, model.mean)
    with pytest.raises(ValueError, match="every recording is shorter"):
        small().adapt([])


@pytest.mark.parametrize("n", [1, 127, 5000])
def test_a_new_model_returns_the_waveform(n):
    wav = 0.1 * np.random.default_rng(n).standard_normal(n).astype(np.float32)
    np.testing.assert_allclose(small().enhance(wav), wav, atol=1e-4)


def test_examples_per_recording():
    model = small()
    for n, count in ((32 * 14, 0), (32 * 15, 1), (32 * 31, 2)):
        noisy, clean = model.preprocess(tf.zeros(n), tf.zeros(n))
        assert noisy.shape == clean.shape == (count, 16, 32)


def test_d_without_its_condition_learns():
    model = small(conditional_d=False)
    model.compile()
    logs = model.train_step((noise(2, 16, 32), noise(2, 16, 32, seed=1)))
    assert float(logs["d_grad_norm"]) > 0 and float(logs["g_grad_norm"]) > 0


def test_wrong_sizes_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="D cannot see more frames"):
        small(crop=17)
    with pytest.raises(ValueError, match="end at n_fft / 2 = 32"):
        small(bands=((1, 16), (17, 32)))


def test_measures_of_smoothing():
    x = np.random.default_rng(0).standard_normal((640, 5))
    np.testing.assert_allclose(oversmooth.variance_ratio(x, x), 1.0)
    np.testing.assert_allclose(oversmooth.variance_ratio(x, 0.5 * x + 3), 0.25)
    assert oversmooth.modulation_distance(x, x) == 0.0
    assert oversmooth.modulation_distance(x, 0.5 * x + 3) == pytest.approx(20 * np.log10(2), abs=1e-2)
    with pytest.raises(ValueError, match="same >= 64 frames"):
        oversmooth.modulation_distance(x[:63], x[:63])


def test_over_smoothed_pairs_have_less_variance():
    speech = data.toy_corpus("test")[:2]
    pairs = oversmooth.pairs(speech)
    assert [p.name for p in pairs] == [u.name for u in speech]
    model = GANPostfilter.tiny()
    natural, smooth = (np.concatenate([model.log_amplitude(w) for w in wavs])
                       for wavs in ([p.clean for p in pairs], [p.noisy for p in pairs]))  # fmt: skip
    assert oversmooth.variance_ratio(natural, smooth).mean() < 0.95
    assert np.isfinite(oversmooth.modulation_distance(natural, smooth))
    other = type("Utterance", (), {"name": "u1", "sample_rate": 8000})
    with pytest.raises(ValueError, match="u1 is at 8000 Hz"):
        oversmooth.pairs([other])
