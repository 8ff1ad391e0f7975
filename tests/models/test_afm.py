"""AFM: the acceptance facts of the paper; labels, decoder and acoustic models are tested in test_downstream_senone.py."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, metrics
from ganse_tf.downstream import senone
from ganse_tf.models import afm
from ganse_tf.models.afm import AFM
from tests.common import CommonSuite, batch_of, copy_of, same, trainable

SIZES = dict(units=16, projection=8, d_units=16, n_senones=31, m_layers=1, m_units=8, m_projection=8)


def small(**kwargs):
    return AFM(**{**SIZES, **kwargs})


def compiled(**kwargs):
    keras.utils.set_random_seed(1)
    model = small(**kwargs)
    model.compile()
    return model


def with_statistics(**kwargs):
    """`small` with plausible statistics, which `fit` would have taken from the data."""
    model = small(**kwargs)
    model.generator.get_layer("noisy_statistics").set_weights([np.repeat([-7.0, 0, 0], 29), np.repeat([3.0, 0.7, 0.3], 29)])
    model.generator.get_layer("clean_statistics").set_weights([np.full(29, -8.0), np.full(29, 4.0)])
    return model


class TestAFM(CommonSuite):
    paper_model = AFM
    paper_counts = {"generator": 3_073_821, "discriminator": 278_529}
    small = staticmethod(with_statistics)
    overfit_steps = 100
    seconds = 0.2


@pytest.fixture(scope="module")
def batch():
    return batch_of(small(), 3, seconds=0.2)


@pytest.fixture(scope="module")
def labelled():
    """One batch of three short pieces of digit strings, of different length, with senone labels."""

    def piece(pair, n, start=4000):
        words = tuple((word, a - start / 16000, b - start / 16000) for word, a, b in pair.words)
        sides = {side: getattr(pair, side)[start : start + n] for side in ("noisy", "clean")}
        return dataclasses.replace(pair, words=words, **sides)

    pairs = [pair for pair in data.toy_pairs("valid", snr_db=(5,)) if pair.words]
    pairs = [piece(pair, n) for pair, n in zip(pairs, (2000, 3600, 2800))]
    batch = next(iter(small(senone_aware=True).examples(pairs, frames=None, shuffle=False)))
    assert len(np.unique(batch[3])) > 3
    return batch


# ---- networks --------------------------------------------------------------------------------------------------------


def test_parameters_of_the_other_reading_of_projection():
    assert trainable(afm.build_generator(recurrent="feedback")) == 2_024_733
    m = senone.build_acoustic_model(31, 29, 2, 96, 48, recurrent=afm.feedback_lstm)
    assert m.count_params() == 4 * 96 * (29 + 48 + 1) + 4 * 96 * (48 + 48 + 1) + 2 * 96 * 48 + 48 * 31 + 31


def test_shapes_and_a_distribution_per_frame():
    model = small(senone_aware=True)
    mapped = model.generator(tf.zeros((2, 5, 87)))
    assert mapped.shape == (2, 5, 29)
    assert model.discriminator(mapped).shape == (2, 5, 1)
    np.testing.assert_allclose(tf.reduce_sum(tf.nn.softmax(model.acoustic_model(mapped)), -1), 1, rtol=1e-5)


def test_d_judges_every_frame_on_its_own():
    model, frames = small(), np.random.default_rng(0).normal(size=(2, 6, 29)).astype(np.float32)
    scores = model.discriminator(frames)
    frames[:, 3] += 1
    moved = np.abs(model.discriminator(frames) - scores)[..., 0] > 1e-6
    assert moved[:, 3].all() and moved.sum() == 2


def test_statistics_travel_with_the_weights_of_f(batch):
    first, second = small(), small()
    first.adapt([batch])
    second.generator.set_weights(first.generator.get_weights())
    np.testing.assert_array_equal(first.generator(batch[0]), second.generator(batch[0]))
    np.testing.assert_array_equal(first.normalise(batch[1]), second.normalise(batch[1]))


# ---- losses ----------------------------------------------------------------------------------------------------------


def test_losses_in_closed_form():
    model, mask = small(), tf.ones((1, 2))
    zeros = tf.zeros((1, 2, 1))
    assert float(model.discriminator_loss(zeros, zeros, mask)) == pytest.approx(2 * math.log(2), abs=1e-6)
    d_real, d_fake = (tf.constant(p)[None, :, None] for p in ([0.9, 0.8], [0.3, 0.4]))
    logits = [tf.math.log(p / (1 - p)) for p in (d_real, d_fake)]
    assert float(model.discriminator_loss(*logits, mask)) == pytest.approx(0.598002, abs=1e-6)
    difference = np.zeros((1, 2, 29), np.float32)
    difference[0, 0, :3] = 1, 2, 3
    assert float(model.mapping_loss(tf.zeros((1, 2, 29)), difference, mask)) == pytest.approx(7.0, abs=1e-5)


def gradients(model, batch, network, loss_of):
    """Gradients for one network of a loss written by hand, `loss_of(mapped, clean, mask)`."""
    with tf.GradientTape() as tape:
        mapped = model.normalise(model.generator(batch[0]))
        loss = loss_of(mapped, model.normalise(batch[1]), batch[2])
    return tape.gradient(loss, network.trainable_variables)


def one_pass(model, batch):
    """The gradients with which train_step moves F (and M) and D."""
    seen = []
    for optimizer in (model.optimizer, model.d_optimizer):
        optimizer.apply = lambda found, variables: seen.append(found)
    model.train_step(batch)
    return seen


@pytest.mark.parametrize("senone_aware", [False, True])
def test_one_backward_pass_equals_the_separate_updates(labelled, senone_aware):
    weights = dict(adversarial_weight=3.0, senone_weight=0.5)
    model = compiled(senone_aware=senone_aware, **weights)
    model.adapt([labelled])

    def l_f(mapped, clean, mask):
        return model.mapping_loss(clean, mapped, mask)

    def l_d(mapped, clean, mask):
        return model.discriminator_loss(model.discriminator(clean), model.discriminator(mapped), mask)

    def l_m(mapped, clean, mask):
        return senone.cross_entropy(labelled[3], model.acoustic_model(mapped)) if senone_aware else 0.0

    of_f = gradients(model, labelled, model.generator, lambda *a: l_f(*a) - 3.0 * l_d(*a) + 0.5 * l_m(*a))
    of_d = gradients(model, labelled, model.discriminator, l_d)
    of_m = gradients(model, labelled, model.acoustic_model, l_m) if senone_aware else []
    g_found, d_found = one_pass(model, labelled)
    assert len(g_found) == len(of_f) + len(of_m) and len(d_found) == len(of_d)
    for found, expected in zip([*g_found, *d_found], [*of_f, *of_m, *of_d]):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_senone_weight_reaches_f_but_not_m(labelled):
    found = {}
    for weight in (0.5, 2.0):
        model = compiled(senone_aware=True, adversarial_weight=0.0, senone_weight=weight)
        found[weight] = one_pass(model, labelled)[0]
    n_f = len(model.generator.trainable_variables)
    for one, other in zip(found[0.5][n_f:], found[2.0][n_f:]):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    assert max(np.abs(a - b).max() for a, b in zip(found[0.5][:n_f], found[2.0][:n_f])) > 1e-3


def lengthened(batch, extra=7):
    """The same batch with `extra` frames of wild padding; labels there are -1, the mask is 0."""
    fill = (100.0, -100.0, 0.0, senone.IGNORE)
    pads = [[[0, 0], [0, extra]] + [[0, 0]] * (x.shape.rank - 2) for x in batch]
    return tuple(tf.pad(x, p, constant_values=tf.cast(f, x.dtype)) for x, p, f in zip(batch, pads, fill))


def test_padded_frames_change_no_loss_and_no_weight(labelled):
    logs, weights = [], []
    for batch in (labelled, lengthened(labelled)):
        model = compiled(senone_aware=True)
        model.adapt([batch])
        logs.append({k: float(v) for k, v in model.train_step(batch).items()})
        weights.append(copy_of(model.trainable_variables))
    assert logs[0].keys() == logs[1].keys() >= {"g_l2", "d_loss", "m_loss", "senone_error", "d_real", "d_fake"}
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    assert max(np.abs(a - b).max() for a, b in zip(*weights)) < 2e-3  # two steps of Adam at most, where a gradient is 0


def test_a_longer_neighbour_does_not_change_an_utterance(labelled):
    model = small()
    n = int(tf.reduce_sum(labelled[2][0]))
    alone = [x[:1, :n] for x in labelled[:3]]
    padded = [x[:1] for x in lengthened(labelled)[:3]]
    losses = [float(model.mapping_loss(c, model.generator(x), m)) for x, c, m in (alone, padded)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# ---- the game --------------------------------------------------------------------------------------------------------


def test_signs_d_learns_to_tell_and_f_to_deceive(batch):
    def mean_scores(model):
        clean, mapped = model.normalise(batch[1]), model.normalise(model.generator(batch[0]))
        return [float(tf.reduce_mean(model.discriminator(x))) for x in (clean, mapped)]

    keras.utils.set_random_seed(1)
    model = small()
    model.adapt([batch])
    model.compile(keras.optimizers.SGD(0.0), keras.optimizers.Adam(1e-2))
    step = tf.function(model.train_step)
    before = mean_scores(model)
    for _ in range(50):
        step(batch)
    after = mean_scores(model)
    assert after[0] - after[1] > before[0] - before[1] + 0.5

    model.compile(keras.optimizers.SGD(1e-6), keras.optimizers.SGD(0.0))
    model.adversarial_weight = 1e4  # the deceiving term alone counts
    model.reversal.scale.assign(-1e4)
    model.train_step(batch)
    assert mean_scores(model)[1] > after[1]


def test_f_m_and_d_move_in_one_step_and_d_stays_without_its_term(labelled):
    model = compiled(senone_aware=True)
    networks = (model.generator, model.discriminator, model.acoustic_model)
    before = [copy_of(n.trainable_variables) for n in networks]
    model.train_step(labelled)
    assert not any(same(b, n.trainable_variables) for b, n in zip(before, networks))
    sa_fm = compiled(senone_aware=True, adversarial_weight=0.0)
    before = copy_of(sa_fm.discriminator.variables)
    logs = sa_fm.train_step(labelled)
    assert same(before, sa_fm.discriminator.variables) and "d_loss" not in logs
    assert float(logs["g_loss"]) == pytest.approx(float(logs["g_l2"]) + float(logs["m_loss"]), rel=1e-5)


def test_paper_optimiser_sums_over_frames(batch):
    batch = [x[:, :10] for x in batch]
    model = compiled(optimizer="sgd_paper", adversarial_weight=0.0)
    assert float(model.optimizer.learning_rate) == pytest.approx(5e-7) and model.optimizer.momentum == 0.5
    summed, mean = one_pass(model, batch)[0], one_pass(compiled(adversarial_weight=0.0), batch)[0]
    np.testing.assert_allclose(summed[-1], float(tf.reduce_sum(batch[2])) * mean[-1], rtol=1e-4)


def test_both_optimisers_work_under_mixed_precision(batch):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = with_statistics()
        model.compile()
        before = [copy_of(n.trainable_variables) for n in (model.generator, model.discriminator)]
        for _ in range(20):  # loss scaling skips the first steps until its scale fits
            model.reset_metrics()
            logs = model.train_step([x[:, :5] for x in batch])
        assert np.isfinite(float(logs["g_loss"])) and np.isfinite(float(logs["d_grad_norm"]))
        assert not any(same(b, n.trainable_variables) for b, n in zip(before, (model.generator, model.discriminator)))
    finally:
        keras.mixed_precision.set_global_policy("float32")


# ---- features and sound ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, examples, frames", [(1, 0, 0), (399, 0, 0), (400, 1, 1), (559, 1, 1), (560, 1, 2)])
def test_examples_of_a_waveform(n, examples, frames):
    noisy, clean, mask = small().preprocess(tf.zeros(n), tf.zeros(n))
    assert (noisy.shape, clean.shape, mask.shape) == ((examples, frames, 87), (examples, frames, 29), (examples, frames))
    np.testing.assert_array_equal(mask, 1)


def test_examples_are_padded_and_masked():
    model = small()
    pairs = data.toy_pairs("valid", n=4, snr_db=(5,))
    noisy, clean, mask = next(iter(data.examples(pairs, model, batch_size=4)))
    frames = sorted(1 + (len(pair.clean) - 400) // 160 for pair in pairs)
    assert sorted(tf.reduce_sum(mask, 1).numpy().tolist()) == frames
    assert noisy.shape == (4, frames[-1], 87)
    assert float(tf.reduce_max(tf.abs(clean * (1 - mask)[..., None]))) == 0


def test_fit_takes_statistics_of_valid_frames_once():
    model = compiled()
    pairs = data.toy_pairs("valid", n=2, snr_db=(5,))
    dataset = data.examples(pairs, model, batch_size=2)
    model.fit(dataset, epochs=1, verbose=0)
    frames = np.concatenate([np.asarray(model.preprocess(p.noisy, p.clean)[0][0]) for p in pairs])
    statistics = model.generator.get_layer("noisy_statistics")
    np.testing.assert_allclose(statistics.mean, frames.mean(0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(statistics.std, frames.std(0), rtol=1e-3)
    before = copy_of(statistics.weights)
    model.fit(data.examples(pairs[:1], model, batch_size=1), epochs=1, verbose=0)
    assert same(before, statistics.weights)


def test_examples_in_memory_carry_labels_and_cut_utterances():
    model = small(senone_aware=True)
    pairs = data.toy_pairs("valid", n=6, snr_db=(5,))
    words = [pair for pair in pairs if pair.words]
    assert 1 < len(words) < 6
    ((noisy, clean, mask, labels),) = model.examples(pairs, frames=None, shuffle=False)
    assert noisy.shape[0] == len(words)
    for row, pair in enumerate(words):
        n = int(tf.reduce_sum(mask[row]))
        np.testing.assert_array_equal(labels[row, :n], senone.alignments(pair, n))
        np.testing.assert_array_equal(noisy[row, :n], model.preprocess(pair.noisy, pair.clean)[0][0])
    np.testing.assert_array_equal(labels == -1, mask == 0)

    stretches = [tf.concat(x, 0) for x in zip(*model.examples(pairs, batch_size=4, frames=50, shuffle=False))]
    assert stretches[0].shape[1] == 50
    for whole, cut in zip((clean, labels), stretches[1::2]):
        np.testing.assert_array_equal(whole[mask > 0], cut[stretches[2] > 0])
    with pytest.raises(ValueError, match="No pair has word boundaries"):
        model.examples([pair for pair in pairs if not pair.words])


def test_order_of_examples_in_memory_depends_on_seed_and_step():
    model, pairs = small(), data.toy_pairs("valid", n=4, snr_db=(5,))
    dataset = model.examples(pairs, batch_size=4, seed=3)
    first, again = (np.concatenate([b[0] for b in dataset]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(list(dataset)[0]) == 3  # no labels without senone_aware
    model.step.assign(1)
    later = np.concatenate([b[0] for b in dataset])
    assert not np.array_equal(first, later)
    np.testing.assert_allclose(np.sort(first.sum((1, 2))), np.sort(later.sum((1, 2))), rtol=1e-5)


def test_mapped_features_have_the_frames_of_the_noisy_ones():
    wav = data.toy_corpus("valid")[0].wav
    assert small().map_features(wav).shape == senone.lfb(wav).shape


def test_a_mapping_that_keeps_the_noisy_features_keeps_the_sound():
    """Gain 1: time, level and phase survive. With a mapping 6 dB below, so is the sound; it is never raised."""
    model = small()
    wav = data.toy_corpus("valid")[0].wav
    for shift, level in ((0.0, 1.0), (math.log(0.25), 0.5), (1.0, 1.0)):
        model.generator = lambda x, training, shift=shift: x[..., :29] + shift
        np.testing.assert_allclose(model.enhance_segment(tf.constant(wav)), level * wav, atol=1e-4)


def test_ideal_features_lift_the_sound():
    """29 gains per frame are coarse, but with the clean features they remove most of the noise."""
    noisy, clean, _ = data.toy_pairs("valid", n=1, snr_db=(0,), kinds=("pink",))[0].load()
    model = small()
    spec = afm.signal.stft(clean, **afm.STFT)
    power = tf.square(tf.abs(spec)) @ afm.signal.mel_matrix(29, **afm.MEL)
    model.generator = lambda x, training: tf.math.log(tf.maximum(power, afm.FLOOR))[None]
    enhanced = model.enhance_segment(tf.constant(noisy)).numpy()
    assert metrics.si_sdr(clean, enhanced, 16000) > metrics.si_sdr(clean, noisy, 16000) + 4


def test_wrong_arguments_are_refused_with_the_fix(batch):
    with pytest.raises(ValueError, match="recurrent is 'gru'; use 'linear' or 'feedback'"):
        AFM(recurrent="gru")
    with pytest.raises(ValueError, match="optimizer is 'sgd'; use 'adam' or 'sgd_paper'"):
        AFM(optimizer="sgd")
    with pytest.raises(ValueError, match="batch has 3 parts.*model.examples"):
        compiled(senone_aware=True).train_step(batch)
