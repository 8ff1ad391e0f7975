"""The tests that every paper's model must pass: a paper's test file subclasses `CommonSuite` and adds its own facts.

    class TestSEGAN(CommonSuite):
        paper_model = SEGAN                                     # builds the paper's sizes
        paper_counts = {"generator": 73_100_049, "discriminator": 24_373_081}
        small = staticmethod(lambda **kw: SEGAN(segment=1024, widths=(4, 8), **kw))  # seconds, not minutes
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data


def trainable(network):
    return sum(int(np.prod(v.shape)) for v in network.trainable_variables)


def copy_of(variables):
    return [np.array(v) for v in variables]


def same(before, variables):
    return all(np.array_equal(a, np.array(b)) for a, b in zip(before, variables))


def batch_of(model, size, seconds=1.2):
    """The first `size` training examples that `model` makes from the toy corpus, as tensors."""
    parts = []
    for pair in data.toy_pairs("train", n=size, snr_db=(5,), seed=1):
        noisy, clean, rate = pair.load()
        n = int(seconds * rate)
        parts.append(model.preprocess(tf.constant(noisy[:n]), tf.constant(clean[:n])))
    return tf.nest.map_structure(lambda *xs: tf.concat(xs, 0)[:size], *parts)


class CommonSuite:
    paper_model = None  # class or function without arguments: the paper's sizes
    paper_counts = {}  # network name -> exact number of trainable parameters
    small = None  # small(**kwargs): the same networks, small enough for seconds
    batch_size = 4
    seconds = 1.2  # of each toy utterance that becomes training examples
    overfit = "g_loss"  # the logged term that must fall when one batch is repeated
    overfit_weight = 0.0  # adversarial_weight in that test: 0 shows that G alone can learn
    overfit_to = 0.7  # ... to this fraction of its first value
    overfit_steps = 30
    fixed_terms = ()  # logged terms that may be missing when D is off

    @pytest.fixture(scope="class")
    def model(self):
        keras.utils.set_random_seed(1)
        model = type(self).small()
        model.compile()
        return model

    @pytest.fixture(scope="class")
    def batch(self, model):
        return batch_of(model, self.batch_size, self.seconds)

    def test_paper_parameter_counts(self):
        model = type(self).paper_model()
        assert {name: trainable(getattr(model, name)) for name in self.paper_counts} == self.paper_counts
        assert model.paper and model.url.startswith("http") and model.domain

    def test_losses_are_finite_and_logged(self, model, batch):
        logs = model.train_step(batch)
        assert "g_loss" in logs and "d_loss" in logs
        assert set(logs) <= set(model.logs)
        for name, value in logs.items():
            assert np.isfinite(float(value)), name

    @pytest.mark.parametrize("frozen", ["generator", "discriminator"])
    def test_each_network_is_moved_by_its_own_optimiser_only(self, batch, frozen):
        keras.utils.set_random_seed(2)
        model = type(self).small()
        g_optimizer, d_optimizer = model.default_optimizers()
        (g_optimizer if frozen == "generator" else d_optimizer).learning_rate = 0.0
        model.compile(g_optimizer, d_optimizer)
        still = model.network_variables(frozen)
        moving = model.network_variables({"generator": "discriminator", "discriminator": "generator"}[frozen])
        before, others = copy_of(still), copy_of(moving)
        model.train_step(batch)
        assert same(before, still)
        assert not same(others, moving)

    def test_without_adversarial_term_d_stays_and_g_learns(self, batch):
        keras.utils.set_random_seed(3)
        model = type(self).small(adversarial_weight=0.0)
        model.compile()
        before_d, before_g = copy_of(model.discriminator.trainable_variables), copy_of(model.generator.trainable_variables)
        logs = model.train_step(batch)
        assert np.isfinite(float(logs["g_loss"]))
        assert same(before_d, model.discriminator.trainable_variables)
        assert not same(before_g, model.generator.trainable_variables)

    def test_overfits_one_batch(self, batch):
        keras.utils.set_random_seed(4)
        model = type(self).small(adversarial_weight=self.overfit_weight)
        model.compile()
        step = tf.function(model.train_step)
        values = []
        for _ in range(self.overfit_steps):
            model.reset_metrics()
            values.append(float(step(batch)[self.overfit]))
        assert min(values[-3:]) < self.overfit_to * values[0], values

    def test_save_and_load_bring_back_weights_and_both_optimisers(self, model, batch, tmp_path):
        model.train_step(batch)
        model.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
        assert same(copy_of(model.weights), again.weights)
        assert same(copy_of(model.g_optimizer.variables), again.g_optimizer.variables)
        assert same(copy_of(model.d_optimizer.variables), again.d_optimizer.variables)
        assert again.get_config() == model.get_config()
        wav = 0.1 * np.sin(np.arange(8000) / 7).astype(np.float32)
        np.testing.assert_array_equal(model.enhance(wav), again.enhance(wav))

        model.save_weights(tmp_path / "model.weights.h5")
        third = type(model).from_config(model.get_config())
        third.compile()
        third.load_weights(tmp_path / "model.weights.h5")
        assert same(copy_of(model.d_optimizer.variables), third.d_optimizer.variables)

    def test_resumed_training_equals_uninterrupted_training(self, batch, tmp_path):
        def fresh():
            keras.utils.set_random_seed(5)
            model = type(self).small()
            model.compile()
            return model, tf.function(model.train_step)

        whole, step = fresh()
        for _ in range(4):
            step(batch)
        first, step = fresh()
        for _ in range(2):
            step(batch)
        first.save_weights(tmp_path / "half.weights.h5")
        keras.utils.set_random_seed(99)
        second = type(first).from_config(first.get_config())
        second.compile()
        second.load_weights(tmp_path / "half.weights.h5")
        step = tf.function(second.train_step)
        for _ in range(2):
            step(batch)
        assert int(second.step) == int(whole.step) == 4
        assert same(copy_of(whole.trainable_variables), second.trainable_variables)

    @pytest.mark.parametrize("n, rate, channels", [(1, 16000, 0), (999, 16000, 0), (20011, 44100, 2), (12345, 8000, 1)])
    def test_enhance_keeps_length_rate_and_channels(self, model, n, rate, channels):
        rng = np.random.default_rng(n)
        wav = (0.1 * rng.standard_normal((n, channels) if channels else n)).astype(np.float32)
        enhanced = model.enhance(wav, sample_rate=rate)
        assert enhanced.shape == wav.shape and enhanced.dtype == np.float32
        assert np.all(np.isfinite(enhanced))

    def test_enhance_of_silence_is_finite(self, model):
        assert np.all(np.isfinite(model.enhance(np.zeros(16000, np.float32))))

    def test_enhance_refuses_nan_with_a_sentence(self, model):
        with pytest.raises(ValueError, match="NaN"):
            model.enhance(np.array([0.0, np.nan], np.float32))

    def test_fit_runs_and_reports(self, model, batch):
        dataset = tf.data.Dataset.from_tensor_slices(batch).batch(self.batch_size)
        history = model.fit(dataset, epochs=1, verbose=0)
        assert np.isfinite(history.history["g_loss"][0])

    @pytest.mark.slow
    def test_paper_size_takes_one_real_step(self):
        model = type(self).paper_model()
        model.compile()
        batch = batch_of(model, 1, seconds=1.5)
        assert tf.nest.flatten(batch)[0].shape[0] == 1
        logs = model.train_on_batch(*batch, return_dict=True) if isinstance(batch, tuple) else model.train_step(batch)
        assert np.isfinite(float(logs["g_loss"]))
