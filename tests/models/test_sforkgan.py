"""S-ForkGAN: the acceptance facts."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import data, layers, signal
from ganse_tf.models import sforkgan
from ganse_tf.models.sforkgan import SForkGAN, latent_distance
from tests.common import CommonSuite, batch_of, copy_of, same, trainable

LENGTHS = [2827, 1414, 707, 354, 177, 89, 45, 23, 12, 6, 3, 2]


WIDTHS = (2, 4, 4, 4, 4)  # five layers instead of eleven
CODE = (89, 4)


def fresh(**kwargs):
    return SForkGAN(**{"widths": WIDTHS, **kwargs})


def small(**kwargs):
    """With statistics as `fit` would take them."""
    model = fresh(**kwargs)
    model.mean.assign(np.full(257, -6.0))
    model.std.assign(np.full(257, 4.0))
    return model


def estimates(model, seed=0, n=3):
    """A random batch and what G makes of it."""
    noisy, clean = tf.unstack(tf.random.stateless_normal((2, n, sforkgan.SIZE, 1), seed=(seed, 1)))
    return noisy, clean, model.generator(model.with_z(noisy))


class TestSForkGAN(CommonSuite):
    paper_model = SForkGAN
    paper_counts = {"generator": 130_223_762, "discriminator": 24_373_076}
    small = staticmethod(small)
    overfit_steps = 100


def test_parts_of_the_generator_and_the_lengths():
    model = SForkGAN(d_inputs="both")
    assert trainable(model.discriminator) == 24_373_572

    def count(prefix):
        found = [layer for layer in model.generator.layers if layer.name.startswith(prefix)]
        return sum(int(np.prod(v.shape)) for layer in found for v in layer.trainable_variables)

    assert count("enc") == 24_369_040
    assert count("speech_dec") == count("noise_dec") == 48_731_009
    assert count("speech_fc") + count("noise_fc") == 8_392_704
    lengths = [2827] + [model.generator.get_layer(f"enc{i}").output.shape[1] for i in range(11)]
    assert lengths == LENGTHS
    for branch in ("speech", "noise"):
        outputs = [model.generator.get_layer(f"{branch}_dec{i}_skip").output.shape for i in range(10)]
        assert [shape[1] for shape in outputs] == LENGTHS[-2:0:-1]
        assert [shape[2] for shape in outputs] == [1024, 512, 512, 256, 256, 128, 128, 64, 64, 32]
    shapes = [x.shape[1:] for x in model.generator.outputs]
    assert shapes == [(2827, 1), (2827, 1), (2, 1024), (2, 1024)]
    assert model.discriminator.output_shape == (None, 1)


@pytest.mark.parametrize("length", LENGTHS[:-1])
def test_decoder_layers_are_the_exact_mirror_of_the_encoder(length):
    """The transposed convolution is the gradient of the convolution; a crop on the wrong side would shift it."""
    conv = layers.FastConv1D(3, sforkgan.KERNEL, strides=2, padding="same", use_bias=False)
    x = tf.random.stateless_normal((2, length, 1), seed=(length, 1))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = conv(x)
        code = tf.random.stateless_normal(y.shape, seed=(length, 2))
        product = tf.reduce_sum(y * code)
    inputs = keras.Input(y.shape[1:])
    mirror = keras.Model(inputs, sforkgan.mirrored(inputs, 1, length, "mirror"))
    mirror.get_layer("mirror").kernel.assign(conv.kernel)
    np.testing.assert_allclose(mirror(code), tape.gradient(product, x), atol=1e-4)


def test_no_two_layers_start_alike():
    """An initialiser shared by layers repeats itself: equal codes would get no gradient from the margin."""
    model = small()
    kernels = [v.numpy() for d in (model.generator, model.discriminator) for v in d.trainable_variables if v.name == "kernel"]
    assert len(kernels) == len(WIDTHS) + 2 + 2 * len(WIDTHS) + len(WIDTHS) + 2
    assert not any(np.array_equal(a, b) for i, a in enumerate(kernels) for b in kernels[:i])


def test_losses_in_closed_form():
    model = small()
    one, zero = tf.ones((2, 1)), tf.zeros((2, 1))
    assert float(model.discriminator_loss(one, zero)) == 0.0
    assert float(model.discriminator_loss(zero, one)) == pytest.approx(1.0)
    noisy, clean = tf.unstack(tf.random.stateless_normal((2, 2, 2827, 1), seed=(1, 2)))
    c = tf.random.stateless_normal((2, 2, 8), seed=(3, 4))
    total, terms = model.generator_loss(noisy, clean, clean, noisy - clean, c, c + 2.0, zero)
    assert float(terms["g_adv"]) == pytest.approx(0.5)
    assert float(terms["g_l1"]) == float(terms["g_margin"]) == 0.0
    assert float(terms["g_reduction"]) == pytest.approx(0.0, abs=1e-6)
    assert float(total) == pytest.approx(0.5, abs=1e-4)
    total, terms = model.generator_loss(noisy, clean, clean + 0.01, tf.zeros_like(noisy), c, c + 0.25)
    distance = float(tf.reduce_mean(tf.abs(noisy - clean)))
    assert float(terms["g_reduction"]) == pytest.approx(distance, rel=1e-5)
    assert float(terms["g_margin"]) == pytest.approx(0.75, abs=1e-5)
    assert float(total) == pytest.approx(1.0 + 0.75 + 100 * distance, rel=1e-5)


def test_latent_distance_and_margin():
    c = tf.random.stateless_normal((4, 2, 1024), seed=(1, 2))
    half = c + 0.5 * tf.sign(tf.random.stateless_normal(c.shape, seed=(3, 4)))
    for kind, value in (("l1", 0.5), ("l2", 0.5 * 2048**0.5 / 2048), ("positions", 0.5 * 32)):
        np.testing.assert_allclose(latent_distance(c, half, kind), [value] * 4, rtol=1e-5)
        np.testing.assert_allclose(latent_distance(c, c, kind), [0] * 4, atol=1e-6)
    zeros = tf.zeros((4, 3, 1))
    for shift, margin in ((0.0, 1.0), (0.5, 0.5), (1.5, 0.0)):
        other = tf.Variable(c + shift)
        with tf.GradientTape() as tape:
            term = small().generator_loss(zeros, zeros, zeros, zeros, c, other)[1]["g_margin"]
        assert float(term) == pytest.approx(margin, abs=1e-5)
        slope = float(tf.reduce_sum(tf.abs(tape.gradient(term, other))))
        assert slope == 0.0 if shift in (0.0, 1.5) else slope == pytest.approx(1.0, rel=1e-4)


def gradients(model, term):
    """Gradients by layer name of one term of G's loss; None where it does not reach."""
    noisy, clean, _ = estimates(model)
    with tf.GradientTape() as tape:
        speech, noise, c_s, c_v = model.generator(model.with_z(noisy))
        total, terms = model.generator_loss(noisy, clean, speech, noise, c_s, c_v)
        loss = total if term == "total" else terms[term]
    kernels = {layer.name: layer.kernel for layer in model.generator.layers if hasattr(layer, "kernel")}
    return dict(zip(kernels, tape.gradient(loss, list(kernels.values()))))


def test_what_each_term_teaches():
    model = small()
    reduction = gradients(model, "g_reduction")
    assert all(reduction[f"speech_dec{i}"] is None for i in range(5)) and reduction["speech_fc"] is None
    assert all(np.any(reduction[name]) for name in ("enc0", "enc4", "noise_fc", "noise_dec0", "noise_dec4"))
    l1 = gradients(model, "g_l1")
    assert all(l1[f"noise_dec{i}"] is None for i in range(5)) and l1["noise_fc"] is None
    margin = gradients(model, "g_margin")
    assert all(np.any(margin[name]) for name in ("enc0", "speech_fc", "noise_fc"))
    assert margin["speech_dec0"] is None and margin["noise_dec0"] is None
    with_fork, without = gradients(model, "total")["enc0"], 100 * l1["enc0"]
    assert not np.allclose(with_fork, without, rtol=0.01)


@pytest.mark.parametrize("margin_weight, frozen", [(0.0, "noise_"), (1.0, "noise_dec")])
def test_without_fork_the_noise_branch_stays_as_it_was(margin_weight, frozen):
    model = small(reduction_weight=0.0, margin_weight=margin_weight)
    model.compile()
    branch = [v for layer in model.generator.layers if layer.name.startswith(frozen) for v in layer.variables]
    others = model.network_variables("generator")
    before, rest = copy_of(branch), copy_of(others)
    assert len(branch) + len(others) == len(model.generator.variables)
    model.train_step(batch_of(model, 2))
    assert same(before, branch)
    assert all(not np.array_equal(a, np.array(b)) for a, b in zip(rest, others) if b.path.endswith("kernel"))


def test_d_sees_one_branch_or_both():
    for d_inputs, channels in (("speech", 2), ("both", 3)):
        model = small(d_inputs=d_inputs)
        noisy, _, (speech, noise, *_) = estimates(model)
        with tf.GradientTape() as tape:
            tape.watch([speech, noise])
            score = tf.reduce_sum(model.discriminator(model.candidates(speech, noise, noisy)))
        to_speech, to_noise = tape.gradient(score, [speech, noise])
        assert len(model.discriminator.inputs) == channels
        assert to_speech is not None and (to_noise is None) == (d_inputs == "speech")
    model.compile()
    assert np.isfinite(float(model.train_step(batch_of(model, 2))["d_loss"]))


def test_two_draws_of_z_one_for_each_decoder():
    model = small()
    noisy, _, (speech, noise, *_) = estimates(model)
    _, z, other = model.with_z(noisy)
    assert z.shape == (3, *CODE) and not np.array_equal(z, other)
    silent = [model.generator([noisy, 0 * z, 0 * z])[i].numpy() for i in range(2)]
    np.testing.assert_array_equal(silent[0], model.generator([noisy, 0 * z, 0 * z])[0])
    mixed_speech, mixed_noise, c_s, c_v = model.generator([noisy, z, 0 * z])
    assert not np.array_equal(mixed_speech, silent[0])
    np.testing.assert_array_equal(mixed_noise, silent[1])  # each decoder has its own z
    np.testing.assert_array_equal(c_s, model.generator([noisy, other, z])[2])  # codes are taken before z


@pytest.mark.parametrize("merge", ["average", "center"])
@pytest.mark.parametrize("n_frames", [1, 4, 30])
def test_windows_and_back_is_the_identity_and_subtraction_needs_no_mean(merge, n_frames):
    model = small(merge=merge)
    rng = np.random.default_rng(0)
    model.mean.assign(rng.uniform(-12, -3, 257))
    model.std.assign(rng.uniform(1, 3, 257))
    lps = tf.constant(rng.normal(-6, 3, (n_frames, 257)), tf.float32)
    model.generator = lambda inputs, training=False: [inputs[0], tf.ones_like(inputs[0]), None, None]
    speech, noise = model.enhance_log_power(lps)
    np.testing.assert_allclose(speech, lps, atol=1e-4)
    np.testing.assert_allclose(noise, np.tile(model.std, (n_frames, 1)), atol=1e-5)
    chosen = {}
    for output in sforkgan.OUTPUTS:
        model.output_kind = output
        chosen[output] = model.choose(lps, speech, noise).numpy()
    np.testing.assert_allclose(chosen["subtraction"], lps - model.std, atol=1e-5)
    np.testing.assert_allclose(chosen["average"], 0.5 * (chosen["speech"] + chosen["subtraction"]), atol=1e-5)


@pytest.mark.parametrize("n", [1, 300, 2304, 16001])
def test_subtraction_in_the_log_domain_is_a_gain_on_the_waveform(n):
    model = fresh(output="subtraction")
    wav = (0.1 * np.random.default_rng(n).standard_normal(n)).astype(np.float32)
    for log_power_removed, gain in ((0.0, 1.0), (2 * np.log(2), 0.5), (-2 * np.log(100), sforkgan.LARGEST_GAIN)):
        model.generator = lambda inputs, training=False, v=log_power_removed: [inputs[0], tf.fill(tf.shape(inputs[0]), v)]
        enhanced = model.enhance_segment(tf.constant(wav))
        np.testing.assert_allclose(enhanced, gain * wav, atol=1e-5 * gain)


def test_the_perfect_noise_is_the_log_of_a_power_quotient():
    noisy, clean, _ = data.toy_pairs("valid", n=1, snr_db=(0,), kinds=("pink",))[0].load()
    specs = [signal.stft(wav, **sforkgan.STFT) for wav in (noisy, clean)]
    s, s_clean = (signal.log_power(spec) for spec in specs)
    loud = np.minimum(np.abs(specs[0]), np.abs(specs[1])) > 1e-4
    quotient = 2 * np.log(np.abs(specs[0])[loud] / np.abs(specs[1])[loud])
    np.testing.assert_allclose((s - s_clean).numpy()[loud], quotient, atol=1e-3)
    assert (quotient < 0).any()  # noise may cancel speech: v is no power


def test_fit_takes_the_statistics_of_the_noisy_training_set_once():
    model = fresh(adversarial_weight=0.0)
    model.compile()
    noisy, clean = batch_of(model, 8)
    dataset = tf.data.Dataset.from_tensor_slices((noisy, clean)).batch(4)
    model.fit(dataset, epochs=1, verbose=0)
    frames = noisy.numpy().reshape(-1, 257)
    np.testing.assert_allclose(model.mean, frames.mean(0), rtol=1e-3)
    np.testing.assert_allclose(model.std, np.sqrt(np.maximum(frames.var(0), 1e-4)), rtol=1e-3)
    x = model.normalise(noisy) - model.normalise(clean)  # shared normalisation: the difference is only scaled
    np.testing.assert_allclose(x * tf.tile(model.std, [11]), noisy - clean, atol=1e-3)
    kept = copy_of([model.mean, model.std])
    model.fit(dataset.map(lambda a, b: (3 * a, b)), epochs=1, verbose=0)
    assert same(kept, [model.mean, model.std])


@pytest.mark.parametrize("n, count", [(1, 0), (2304, 0), (2305, 1), (2560, 1), (3584, 1), (3585, 2), (16000, 11)])
def test_windows_per_utterance(n, count):
    noisy, clean = small().preprocess(tf.zeros(n), tf.zeros(n))
    assert noisy.shape == clean.shape == (count, 2827)


def test_a_step_of_g_alone_leaves_virtual_batch_norm_alone():
    model = small(adversarial_weight=0.0)
    model.compile()
    before = copy_of(model.discriminator.variables)
    model.train_step(batch_of(model, 2))
    assert same(before, model.discriminator.variables)


def test_wrong_arguments_are_refused_with_the_fix():
    for name, advice in (("output", "subtraction"), ("merge", "center"), ("d_inputs", "both"), ("latent_distance", "l2")):
        with pytest.raises(ValueError, match=f"{name} is 'power'.*{advice}"):
            small(**{name: "power"})
