"""MetricGAN and MetricGAN+: acceptance facts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import layers, metrics
from ganse_tf.models.metricgan import BINS, MetricGAN, build_generator
from ganse_tf.schedule import ReplayBuffer, lessons, variations
from tests.common import CommonSuite, copy_of, same, trainable


def loudness(clean, enhanced, sample_rate):
    """A toy metric, quick and always defined."""
    return float(np.exp(-abs(np.std(enhanced) - 0.05) * 10))


def small(**kwargs):
    thin = {"metric": "stoi", "lstm_units": 8, "dense_units": 8, "learning_rate": 0.02, "d_filters": (2, 2, 2, 2)}
    return MetricGAN.plus(**{**thin, **kwargs})


class TestMetricGAN(CommonSuite):
    paper_model = MetricGAN
    paper_counts = {"generator": 1_892_057, "discriminator": 345_330}
    small = staticmethod(small)
    batch_size = 2
    overfit_to = 0.85


def test_metricgan_plus_counts():
    model = MetricGAN.plus()
    assert trainable(model.generator) == 1_892_314
    assert trainable(model.discriminator) == 19_010


def test_shortest_spectrogram_of_the_paper_discriminator():
    model = MetricGAN()
    assert model.min_frames == 29
    assert model.discriminator(tf.zeros((1, 29, BINS, 2))).shape == (1, 1)
    assert MetricGAN.tiny().min_frames == 45  # strides 2, 2, 1, 1, from the end: 5, 9, 21, 45
    short, long = tf.zeros(28 * 256 - 1), tf.zeros(28 * 256)
    assert model.preprocess(short, short)[0].shape[0] == 0
    assert model.preprocess(long, long)[0].shape[0] == 1


def test_loudness_input_of_d():
    model = small(d_input="loudness", d_strides=(2, 2, 1, 1))
    rng = np.random.default_rng(0)
    mag = np.abs(rng.standard_normal((2, 60, BINS))).astype(np.float32)
    seen = model.view(tf.constant(mag), tf.constant(mag)).numpy()
    assert seen.shape == (2, 60, 64, 3)
    np.testing.assert_array_equal(seen[..., 2], 0.0)  # the difference of equal spectra
    louder = model.view(tf.constant(3 * mag), tf.constant(mag)).numpy()
    np.testing.assert_allclose(louder, seen, atol=1e-5)  # a gain is no error: PESQ aligns levels
    silent = model.view(tf.zeros_like(mag), tf.constant(mag)).numpy()
    assert np.isfinite(silent).all() and silent[..., 0].max() == pytest.approx(1e-5**0.2 - 1.0, abs=1e-5)
    with pytest.raises(ValueError, match="'spectra' or 'loudness'"):
        MetricGAN(d_input="ears")


def test_variations_of_the_mask_are_bolder_and_more_timid():
    model = small()
    wav = 0.1 * tf.random.stateless_normal((1, 16000), seed=(1, 2))
    plain, same_mask, bold, timid = (
        model.enhance_batch(wav, grid)[0].numpy() for grid in (None, *(tf.fill((1, 4, 8), g) for g in (0.0, 1.0, -1.0)))
    )
    np.testing.assert_allclose(plain, same_mask, rtol=1e-6)
    assert (bold <= plain + 1e-7).all() and (timid >= plain - 1e-7).all()  # an untrained mask is about 0.6
    grids = variations(1000, np.random.default_rng(0))
    assert grids.shape == (1000, 4, 8) and abs(grids.mean()) < 0.05 and 0.6 < grids.std() < 1.0


def test_lessons_cover_everything_once_and_leave_out_failures():
    entries = [(np.full((3, 4), i), np.zeros((3, 4)), np.array([0.1, np.nan, 0.3]) + i) for i in range(5)]
    found = list(lessons(entries, 2, np.random.default_rng(0)))
    expected = sorted(i + q for i in range(5) for q in (0.1, 0.3))
    assert sorted(q for _, _, score in found for q in score) == pytest.approx(expected)
    assert all(len(x) == len(score) <= 2 and (x[:, 0] == int(score[0])).all() for x, _, score in found)


@pytest.mark.parametrize("plus, top", [(False, 1.0), (True, 1.2)])
def test_mask_range(plus, top):
    mask = build_generator(plus, 4, 4)(50 * np.random.default_rng(0).standard_normal((1, 7, BINS)))
    assert mask.shape == (1, 7, BINS)
    assert float(tf.reduce_min(mask)) >= 0.05 - 1e-7 and float(tf.reduce_max(mask)) <= top + 1e-6


def test_score_normalisation():
    perfect = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    assert MetricGAN.tiny().score(perfect[None], perfect[None])[0] == 1.0  # clipped: wide-band PESQ gives 1.029
    assert metrics.normalised(loudness) is loudness
    with pytest.raises(ValueError, match="pesq_wb"):
        metrics.normalised("snr9")


def test_losses_in_closed_form():
    model = small()
    predictions, scores = [tf.constant([0.9]), tf.constant([0.5])], [tf.constant([1.0]), tf.constant([0.6])]
    assert float(model.discriminator_loss(predictions, scores)) == pytest.approx(0.02, abs=1e-6)
    clean, mag = tf.zeros((1, 4096)), tf.zeros((1, 17, BINS))
    for target, expected in ((1.0, 0.25), (0.5, 0.0)):
        total, _ = small(target=target).generator_loss(clean, mag, tf.constant([0.5]))
        assert float(total) == pytest.approx(expected, abs=1e-6)


def test_generator_step_leaves_discriminator_and_power_iteration_vectors():
    model = small()
    model.compile()
    wav = tf.random.stateless_normal((1, 8000), seed=(1, 2))
    before = copy_of(model.discriminator.variables)
    model.update_g(wav, wav)
    assert same(before, model.discriminator.variables)
    model.update_d(wav, wav, tf.constant([0.5]))
    assert not same(before, model.discriminator.variables)


def test_spectral_norm_after_thirty_power_iterations():
    keras.utils.set_random_seed(0)  # singular values that lie close together need more iterations
    model = small()
    layers.power_iteration(model.discriminator, steps=30)
    for layer in model.discriminator.layers:
        if hasattr(layer, "normalised_kernel"):
            kernel = np.array(layer.normalised_kernel())
            assert np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)[0] == pytest.approx(1, abs=1e-3)


def test_black_box_metric_any_function_and_no_gradient_through_it():
    calls = []

    def metric(clean, enhanced, sample_rate):
        calls.append((type(clean), enhanced.shape, sample_rate))
        return 0.7

    model = small(metric=metric)
    model.compile()
    wav = tf.random.stateless_normal((1, 8000), seed=(1, 2))
    step = tf.function(model.update_d)
    errors = [float(step(wav, wav, tf.constant(model.score(wav, wav)))["surrogate_error"]) for _ in range(40)]
    assert calls[0] == (np.ndarray, (8000,), 16000)
    assert errors[-1] < 0.1 < errors[0]  # D(.) goes to the constant 0.7
    with tf.GradientTape() as tape:
        tape.watch(wav)
        score = model.score_in_graph(wav, wav)
    assert tape.gradient(score, wav) is None


def test_failed_scores_are_left_out():
    model = small(metric=lambda clean, enhanced, rate: float("nan"))
    model.compile()
    wav = 0.1 * np.random.default_rng(0).standard_normal((1, 8000)).astype(np.float32)
    reports = []
    model.fit_epoch(0, [(wav, wav)], lambda **values: reports.append(values))
    assert sum("d_loss" in r for r in reports) == 1  # clean speech only, in the first pass (the buffer is empty)
    assert sum("g_loss" in r for r in reports) == 1


def test_replay_buffer_keeps_old_scores_and_its_portion(tmp_path):
    buffer, rng = ReplayBuffer(size=1000), np.random.default_rng(0)
    for epoch in range(3):
        buffer.extend([(np.full((1, 8), epoch / 4), np.zeros((1, 8)), np.array([epoch / 10]))] * 200)
        buffer.save_newest(tmp_path / f"{epoch}.npz")
    assert len(buffer) == 600
    assert len(buffer.sample(0.1, rng)) == 60
    candidate, _, score = buffer.sample(1.0, rng)[0]
    assert float(score[0]) * 10 / 4 == pytest.approx(float(candidate[0, 0]), abs=1e-4)
    again = ReplayBuffer(size=500)
    again.load([tmp_path / f"{epoch}.npz" for epoch in range(3)])
    assert len(again) == 500  # the oldest went
    np.testing.assert_array_equal(again.entries[-1][0], buffer.entries[-1][0])


def test_magnitude_feature_multiplies_the_spectrum():
    model = small(feature="magnitude", learnable_sigmoid=False)
    wav = 0.1 * tf.random.stateless_normal((1, 8000), seed=(1, 2))
    mag, _ = model.enhance_batch(wav)
    ratio = mag / tf.maximum(tf.abs(model.spectrum(wav)), 1e-6)
    assert 0.049 < float(tf.reduce_min(ratio)) and float(tf.reduce_max(ratio)) < 1.001
