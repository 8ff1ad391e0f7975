"""The fast layers equal the stock ones; the normalisations follow their papers' arithmetic."""

import doctest
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf import layers, optimizers

ROOT = Path(__file__).parents[1]
OUTPUT_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


@pytest.fixture(autouse=True)
def seed():
    global RNG
    keras.utils.set_random_seed(0)
    RNG = np.random.default_rng(0)


def normal(*shape):
    """N(0, 1) draws, float32; each test starts the sequence anew."""
    return RNG.standard_normal(shape, dtype=np.float32)


@pytest.fixture
def bfloat16():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def outputs_and_gradients(layer, x, weights=None, **call):
    """The output, and the gradients of a fixed random projection of it with respect to the input and all weights."""
    if weights is not None:
        layer.build(x.shape)
        layer.set_weights(weights)
    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, **call)
        projection = tf.random.stateless_normal(tf.shape(y), [1, 2])
        loss = tf.reduce_sum(tf.cast(y, tf.float32) * projection)
    return y.numpy(), [g.numpy() for g in tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])]


def assert_same(fast, stock, x, **call):
    """`fast` with the weights of `stock` gives its outputs and gradients."""
    stock.build(x.shape)
    stock.set_weights([0.3 * normal(*w.shape) for w in stock.get_weights()])
    y_stock, g_stock = outputs_and_gradients(stock, x, **call)
    y_fast, g_fast = outputs_and_gradients(fast, x, weights=stock.get_weights(), **call)
    np.testing.assert_allclose(y_fast, y_stock, atol=OUTPUT_TOLERANCE, rtol=OUTPUT_TOLERANCE)
    for got, expected in zip(g_fast, g_stock, strict=True):
        np.testing.assert_allclose(got, expected, atol=GRADIENT_TOLERANCE, rtol=GRADIENT_TOLERANCE)


def operations(layer, x, **call):
    """Names of the TensorFlow operations behind a call, including those in called functions."""
    graph = tf.function(lambda x: layer(x, **call)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    names = {op.type for op in graph.get_operations()}
    for function in graph.as_graph_def().library.function:
        names |= {node.op for node in function.node_def}
    return names


def reloaded(model, tmp_path):
    model.save(tmp_path / "model.keras")
    return keras.saving.load_model(tmp_path / "model.keras")


def test_examples_in_the_docstrings():
    for module in (layers, optimizers):
        assert doctest.testmod(module).failed == 0


# ---- convolutions ----------------------------------------------------------------------------------------------------

FAST_AND_STOCK = {
    "conv": (layers.FastConv1D, keras.layers.Conv1D),
    "transpose": (layers.FastConv1DTranspose, keras.layers.Conv1DTranspose),
}


@pytest.mark.parametrize("length", [1, 7, 16])
@pytest.mark.parametrize("strides", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 2, 5, 31])
@pytest.mark.parametrize("kind", FAST_AND_STOCK)
def test_short_convolution_equals_stock(kind, kernel, strides, length):
    options = dict(filters=4, kernel_size=kernel, strides=strides, padding="same", use_bias=strides != 2)
    x = normal(2, length, 3)
    fast, stock = (cls(**options) for cls in FAST_AND_STOCK[kind])
    assert_same(fast, stock, x)


@pytest.mark.parametrize("kind, stock_op", [("conv", "Conv2D"), ("transpose", "Conv2DBackpropInput")])
def test_matrix_product_for_short_inputs_stock_kernel_for_long_ones(kind, stock_op):
    layer = FAST_AND_STOCK[kind][0](4, 31, strides=2, padding="same")
    short, long = tf.zeros([1, layer.max_length, 3]), tf.zeros([1, layer.max_length + 1, 3])
    layer(short)
    assert stock_op not in operations(layer, short)
    assert stock_op in operations(layer, long)
    layer.fast = False
    assert stock_op in operations(layer, short)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("conv", dict(padding="valid")),
        ("conv", dict(padding="causal")),
        ("conv", dict(padding="same", dilation_rate=2)),
        ("conv", dict(padding="same", groups=3)),
        ("conv", dict(padding="same", activation="tanh")),
        ("transpose", dict(padding="valid", strides=2)),
        ("transpose", dict(padding="same", strides=2, output_padding=1)),
        ("transpose", dict(padding="same", strides=2, activation="relu")),
    ],
)
def test_every_other_option_of_a_convolution(kind, options):
    fast, stock = (cls(filters=6, kernel_size=4, **options) for cls in FAST_AND_STOCK[kind])
    assert_same(fast, stock, normal(2, 9, 3))


@pytest.mark.parametrize("kind", FAST_AND_STOCK)
def test_convolution_in_a_functional_model_of_any_length(kind, tmp_path):
    fast, stock = FAST_AND_STOCK[kind]
    inputs = keras.Input([None, 3])
    model = keras.Model(inputs, fast(4, 5, strides=2, padding="same", name="a")(inputs))
    again = reloaded(model, tmp_path)
    assert type(again.layers[1]) is fast
    reference = stock(4, 5, strides=2, padding="same")
    reference.build([None, None, 3])
    reference.set_weights(model.get_weights())
    for length in (1, 10, 100):
        x = normal(2, length, 3)
        np.testing.assert_allclose(again(x), reference(x), atol=OUTPUT_TOLERANCE)
        np.testing.assert_array_equal(again(x), model(x))


@pytest.mark.parametrize("kind", FAST_AND_STOCK)
def test_convolution_in_bfloat16(kind, bfloat16):
    fast, stock = (cls(4, 31, strides=2, padding="same") for cls in FAST_AND_STOCK[kind])
    x = normal(2, 16, 3)
    y = stock(x)
    fast(x)
    fast.set_weights(stock.get_weights())
    assert fast(x).dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(fast(x), tf.float32), tf.cast(y, tf.float32), atol=0.03)  # 8 bits of mantissa


@pytest.mark.parametrize("kind", FAST_AND_STOCK)
def test_convolution_under_xla(kind):
    layer = FAST_AND_STOCK[kind][0](4, 31, strides=2, padding="same")
    x = tf.random.normal([2, 16, 3])
    y = layer(x)
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(x), y, atol=OUTPUT_TOLERANCE)


# ---- bidirectional LSTM ----------------------------------------------------------------------------------------------


def stock_blstm(units, **options):
    return keras.layers.Bidirectional(keras.layers.LSTM(units, return_sequences=True, **options))


@pytest.mark.parametrize("lengths", [None, [9, 5, 1], [9, 9, 0]])
@pytest.mark.parametrize("features, units", [(1, 3), (6, 4)])
def test_blstm_equals_stock(features, units, lengths):
    x = normal(3, 9, features)
    call = {} if lengths is None else {"mask": tf.sequence_mask(lengths, 9)}
    assert_same(layers.FastBLSTM(units), stock_blstm(units), x, **call)


def test_blstm_of_one_step():
    assert_same(layers.FastBLSTM(4), stock_blstm(4), normal(2, 1, 3))


def test_blstm_padding_changes_nothing():
    layer = layers.FastBLSTM(4)
    x = normal(1, 6, 3)
    padded = np.concatenate([x, 100 * np.ones([1, 5, 3], "float32")], 1)
    y = layer(padded, mask=tf.sequence_mask([6], 11))
    np.testing.assert_allclose(y[:, :6], layer(x), atol=1e-6)
    np.testing.assert_array_equal(y[:, 6:], np.zeros([1, 5, 8]))


def test_blstm_mask_from_a_masking_layer():
    inputs = keras.Input([None, 3])
    fast, stock = layers.FastBLSTM(4), stock_blstm(4)
    masked = keras.layers.Masking()(inputs)
    models = [keras.Model(inputs, layer(masked)) for layer in (fast, stock)]
    fast.set_weights(stock.get_weights())
    x = normal(2, 8, 3)
    x[1, 5:] = 0.0
    np.testing.assert_allclose(models[0](x), models[1](x), atol=OUTPUT_TOLERANCE)


def test_blstm_refuses_padding_in_front():
    with pytest.raises(tf.errors.InvalidArgumentError, match="padding only at the end"):
        layers.FastBLSTM(4)(tf.zeros([1, 4, 3]), mask=tf.constant([[False, True, True, True]]))


def test_blstm_block_kernel_is_really_used_and_can_be_switched_off():
    layer = layers.FastBLSTM(4)
    x = tf.random.normal([2, 5, 3])
    y = layer(x)
    assert "BlockLSTMV2" in operations(layer, x)
    layer.fast = False
    assert "BlockLSTMV2" not in operations(layer, x)
    np.testing.assert_allclose(layer(x), y, atol=OUTPUT_TOLERANCE)
    np.testing.assert_allclose(tf.function(layer, jit_compile=True)(x), y, atol=OUTPUT_TOLERANCE)


@pytest.mark.parametrize(
    "options", [dict(activation="relu"), dict(recurrent_activation="tanh"), dict(use_bias=False), dict(unroll=True)]
)
def test_blstm_options_without_a_quick_path(options):
    x = normal(2, 5, 3)
    assert_same(layers.FastBLSTM(4, **options), stock_blstm(4, **options), x)
    assert "BlockLSTMV2" not in operations(layers.FastBLSTM(4, **options), tf.constant(x))


def test_blstm_dropout_acts_in_training():
    layer = layers.FastBLSTM(4, dropout=0.5)
    x = tf.random.normal([2, 5, 3])
    assert np.abs(layer(x, training=True) - layer(x, training=False)).max() > 0.01


def test_blstm_in_graph_mode_with_any_length():
    layer = layers.FastBLSTM(4)
    layer.build([None, None, 3])

    @tf.function(input_signature=[tf.TensorSpec([None, None, 3])])
    def gradient(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) ** 2)
        return tape.gradient(loss, [v.value for v in layer.trainable_variables])

    stock = stock_blstm(4)
    stock.build([None, None, 3])
    stock.set_weights(layer.get_weights())
    for shape in ([1, 1, 3], [2, 11, 3]):
        x = tf.random.normal(shape)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(stock(x) ** 2)
        expected = tape.gradient(loss, [v.value for v in stock.trainable_variables])
        for got, want in zip(gradient(x), expected):
            np.testing.assert_allclose(got, want, atol=GRADIENT_TOLERANCE)


def test_blstm_in_bfloat16(bfloat16):
    layer = layers.FastBLSTM(4)
    y = layer(tf.random.normal([2, 5, 3]))
    assert y.dtype == tf.bfloat16
    assert {v.dtype for v in layer.weights} == {"float32"}


def test_blstm_saves_and_loads(tmp_path):
    inputs = keras.Input([None, 3])
    options = dict(kernel_initializer=keras.initializers.RandomNormal(stddev=0.1), recurrent_initializer="zeros")
    model = keras.Model(inputs, layers.FastBLSTM(4, name="blstm", **options)(inputs))
    again = reloaded(model, tmp_path)
    x = tf.random.normal([2, 5, 3])
    np.testing.assert_array_equal(again(x), model(x))
    layer = again.get_layer("blstm")
    assert type(layer) is layers.FastBLSTM
    assert layer.get_config() == model.get_layer("blstm").get_config()
    assert layer.forward_layer.cell.kernel_initializer.stddev == 0.1


def stock_lstm(units, **options):
    return keras.layers.LSTM(units, return_sequences=True, **options)


def fast_lstm(units, **options):
    return layers.FastLSTM(units, return_sequences=True, **options)


@pytest.mark.parametrize("steps, features, units", [(1, 3, 4), (9, 5, 4), (30, 2, 16)])
def test_lstm_equals_stock(steps, features, units):
    assert_same(fast_lstm(units), stock_lstm(units), normal(3, steps, features))


def test_lstm_quick_path_is_really_used_and_can_be_switched_off():
    layer, x = fast_lstm(4), tf.random.normal([2, 5, 3])
    y = layer(x)
    assert "BlockLSTMV2" in operations(layer, x)
    layer.fast = False
    assert "BlockLSTMV2" not in operations(layer, x)
    np.testing.assert_allclose(layer(x), y, atol=OUTPUT_TOLERANCE)


@pytest.mark.parametrize("options", [dict(activation="relu"), dict(use_bias=False), dict(go_backwards=True)])
def test_lstm_options_without_a_quick_path(options):
    x = normal(2, 5, 3)
    assert_same(fast_lstm(4, **options), stock_lstm(4, **options), x)
    assert "BlockLSTMV2" not in operations(fast_lstm(4, **options), tf.constant(x))


def test_lstm_last_output_and_masks_run_on_the_stock_path():
    x = normal(2, 5, 3)
    assert_same(layers.FastLSTM(4), keras.layers.LSTM(4), x)
    assert_same(fast_lstm(4), stock_lstm(4), x, mask=tf.sequence_mask([5, 2], 5))


def test_lstm_padding_at_the_end_changes_nothing_before_it():
    layer, x = fast_lstm(4), normal(1, 6, 3)
    padded = np.concatenate([x, 100 * np.ones([1, 5, 3], "float32")], 1)
    np.testing.assert_allclose(layer(padded)[:, :6], layer(x), atol=1e-6)


def test_lstm_saves_and_loads(tmp_path):
    inputs = keras.Input([None, 3])
    model = keras.Model(inputs, fast_lstm(4, name="lstm")(inputs))
    again = reloaded(model, tmp_path)
    x = tf.random.normal([2, 5, 3])
    np.testing.assert_array_equal(again(x), model(x))
    assert type(again.get_layer("lstm")) is layers.FastLSTM


def test_projected_cell_with_an_identity_projection_is_an_lstm(tmp_path):
    inputs = keras.Input([None, 3])
    rnn = keras.layers.RNN(layers.ProjectedLSTMCell(4, 4), return_sequences=True, name="rnn")
    model, stock, x = keras.Model(inputs, rnn(inputs)), stock_lstm(4), normal(2, 7, 3)
    stock(x)
    kernel, recurrent_kernel, bias, _ = rnn.get_weights()
    np.testing.assert_array_equal(bias, stock.get_weights()[2])  # both open the forget gate
    rnn.set_weights([kernel, recurrent_kernel, bias, np.eye(4)])
    stock.set_weights([kernel, recurrent_kernel, bias])
    np.testing.assert_allclose(model(x), stock(x), atol=OUTPUT_TOLERANCE)
    np.testing.assert_array_equal(reloaded(model, tmp_path)(x), model(x))


def test_projected_cell_feeds_its_projection_back():
    rnn = keras.layers.RNN(layers.ProjectedLSTMCell(8, 3), return_sequences=True)
    y = rnn(normal(2, 5, 6))
    assert y.shape == (2, 5, 3)
    assert [tuple(w.shape) for w in rnn.weights] == [(6, 32), (3, 32), (32,), (8, 3)]
    before = rnn(normal(2, 5, 6)).numpy()
    rnn.cell.projection_kernel.assign(0 * rnn.cell.projection_kernel)
    np.testing.assert_array_equal(rnn(normal(2, 5, 6)), 0 * before)


# ---- spectral normalisation ------------------------------------------------------------------------------------------

SPECTRAL = {
    "conv2d": (lambda: layers.SpectralNormConv2D(6, 3, strides=2, padding="same"), [2, 8, 8, 3]),
    "conv2d valid": (lambda: layers.SpectralNormConv2D(6, (3, 2), use_bias=False), [2, 8, 8, 3]),
    "conv1d": (lambda: layers.SpectralNormConv1D(6, 5, padding="same", activation="tanh"), [2, 8, 3]),
    "dense": (lambda: layers.SpectralNormDense(5), [2, 7]),
}
STOCK = {"conv2d": keras.layers.Conv2D, "conv1d": keras.layers.Conv1D, "dense": keras.layers.Dense}


@pytest.mark.parametrize("kind", SPECTRAL)
def test_kernel_over_sigma_has_largest_singular_value_one(kind):
    make, shape = SPECTRAL[kind]
    network = keras.Sequential([keras.Input(shape[1:]), make()])
    layers.power_iteration(network, steps=30)
    kernel = network.layers[0].normalised_kernel().numpy()
    assert np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("kind", SPECTRAL)
def test_spectral_layer_is_the_stock_layer_with_kernel_over_sigma(kind):
    make, shape = SPECTRAL[kind]
    layer, x = make(), tf.random.normal(shape)
    layer(x)
    stock = STOCK[kind.split()[0]].from_config(layer.get_config())
    stock.build(x.shape)
    stock.set_weights([layer.normalised_kernel(), *layer.get_weights()[1:-1]])  # kernel, bias; u is the last one
    np.testing.assert_allclose(layer(x), stock(x), atol=OUTPUT_TOLERANCE)


@pytest.mark.parametrize("kind", SPECTRAL)
def test_gradient_flows_through_sigma(kind):
    """W / sigma(W) does not change when W is scaled, so the gradient is orthogonal to W; without sigma it is not."""
    make, shape = SPECTRAL[kind]
    layer, x = make(), tf.random.normal(shape)
    _, (_, gradient, *_) = outputs_and_gradients(layer, x)
    kernel = layer.kernel.numpy()
    assert abs(np.sum(kernel * gradient)) < 1e-4 * np.linalg.norm(kernel) * np.linalg.norm(gradient)
    assert np.linalg.norm(gradient) > 0.01


def test_sigma_gradient_is_that_of_the_singular_value():
    layer = layers.SpectralNormDense(3)
    layer.build([None, 4])
    for _ in range(50):
        layer.update_u()
    with tf.GradientTape() as tape:
        sigma = layer.sigma()
    u, s, vt = np.linalg.svd(layer.kernel.numpy())
    assert float(sigma) == pytest.approx(s[0], rel=1e-5)
    np.testing.assert_allclose(tape.gradient(sigma, layer.kernel.value), np.outer(u[:, 0], vt[0]), atol=1e-4)


def test_only_power_iteration_changes_u():
    inner = keras.Sequential([keras.Input([8, 8, 3]), layers.SpectralNormConv2D(4, 3), keras.layers.Flatten()])
    network = keras.Sequential([keras.Input([8, 8, 3]), inner, layers.SpectralNormDense(2)])
    before = [w.copy() for w in network.get_weights()]
    for training in (True, False):
        network(tf.random.normal([2, 8, 8, 3]), training=training)
    for a, b in zip(before, network.get_weights()):
        np.testing.assert_array_equal(a, b)
    tf.function(layers.power_iteration)(network)
    changed = [w.path for w, a in zip(network.weights, before) if not np.array_equal(w.numpy(), a)]
    assert len(changed) == 2 and all(path.endswith("/u") for path in changed)


@pytest.mark.parametrize("shape", [(1, 11, 11), (2, 12, 40), (1, 70, 33)])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [5, 8, 11])
def test_large_kernels_by_fft_equal_the_sliding_kernel(kernel, padding, shape):
    x = normal(*shape, 9)
    fast, slow = (layers.SpectralNormConv2D(10, kernel, padding=padding) for _ in range(2))
    slow.fast = False
    slow.build(x.shape)
    slow.set_weights([normal(*w.shape) for w in slow.get_weights()])
    y_slow, g_slow = outputs_and_gradients(slow, x)
    y_fast, g_fast = outputs_and_gradients(fast, x, weights=slow.get_weights())
    np.testing.assert_allclose(y_fast, y_slow, atol=OUTPUT_TOLERANCE * np.abs(y_slow).max())
    for got, expected in zip(g_fast, g_slow, strict=True):
        np.testing.assert_allclose(got, expected, atol=GRADIENT_TOLERANCE * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    "options, uses_fft",
    [
        (dict(kernel_size=7), True),
        (dict(kernel_size=3), False),
        (dict(kernel_size=(7, 5)), False),
        (dict(kernel_size=7, strides=2), False),
        (dict(kernel_size=7, dilation_rate=2), False),
        (dict(kernel_size=7, filters=4), False),
        (dict(kernel_size=17), False),
    ],
)
def test_when_the_fft_is_used(options, uses_fft):
    layer = layers.SpectralNormConv2D(**{"filters": 8, "padding": "same", **options})
    x = tf.zeros([1, 20, 20, 8])
    layer(x)
    assert ("RFFT2D" in operations(layer, x)) is uses_fft
    layer.fast = False
    assert "RFFT2D" not in operations(layer, x)


def test_fft_in_a_graph_of_any_size():
    layer = layers.SpectralNormConv2D(8, 5)
    layer.build([None, None, None, 8])
    graph = tf.function(layer, input_signature=[tf.TensorSpec([None, None, None, 8])])
    for shape in ((1, 5, 5, 8), (3, 29, 64, 8), (1, 100, 7, 8)):
        x = normal(*shape)
        y = graph(tf.constant(x))
        layer.fast = False
        np.testing.assert_allclose(y, layer(x), atol=OUTPUT_TOLERANCE)
        layer.fast = True
        assert y.shape == (shape[0], shape[1] - 4, shape[2] - 4, 8)


def test_power_iteration_needs_a_spectral_layer():
    network = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)], name="d")
    with pytest.raises(ValueError, match="'d' has no SpectralNorm layer"):
        layers.power_iteration(network)


def test_spectral_layer_refuses_causal_padding():
    with pytest.raises(ValueError, match="'same' and 'valid'"):
        layers.SpectralNormConv1D(2, 3, padding="causal")(tf.zeros([1, 5, 2]))


def test_spectral_layers_save_u(tmp_path):
    network = keras.Sequential([keras.Input([6, 6, 2]), layers.SpectralNormConv2D(3, 3, name="a")])
    network.add(keras.layers.Flatten())
    network.add(layers.SpectralNormDense(2, name="b"))
    layers.power_iteration(network, steps=3)
    again = reloaded(network, tmp_path)
    for a, b in zip(network.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    network.save_weights(tmp_path / "n.weights.h5")
    layers.power_iteration(again, steps=3)
    again.load_weights(tmp_path / "n.weights.h5")
    np.testing.assert_array_equal(again.get_layer("b").u.numpy(), network.get_layer("b").u.numpy())


@pytest.mark.parametrize("kind", SPECTRAL)
def test_spectral_norm_in_bfloat16_uses_the_float32_kernel(kind, bfloat16):
    make, shape = SPECTRAL[kind]
    layer = make()
    seen = []
    original = layer.normalised_kernel
    layer.normalised_kernel = lambda: seen.append(original()) or seen[-1]
    assert layer(tf.random.normal(shape)).dtype == tf.bfloat16
    np.testing.assert_array_equal(seen[-1], original())  # the same inside and outside Keras' autocast scope
    assert seen[-1].dtype == tf.float32


# ---- virtual batch normalisation -------------------------------------------------------------------------------------


def vbn(batch=None, gamma=1.0, **options):
    """A one-layer network with known gamma and, if given, `batch` (batch, time, 1) as its reference."""
    layer = layers.VirtualBatchNorm(**options)
    network = keras.Sequential([keras.Input([None, 1]), layer])
    layer.gamma.assign([gamma])
    if batch is not None:
        layers.set_reference(network, batch)
    return network


REFERENCE = np.float32([[[0.0]], [[2.0]]])


def test_vbn_arithmetic_of_segans_code():
    """papers/segan.md, acceptance fact 4: m = 5/3, q = 13/3."""
    network = vbn(REFERENCE)
    y = network(np.float32([[[3.0]], [[3.0]]])).numpy().ravel()
    np.testing.assert_allclose(y, [1.06904, 1.06904], atol=1e-5)
    y = layers.set_reference(network, REFERENCE).numpy().ravel()
    np.testing.assert_allclose(y, [-0.999995, 0.999995], atol=1e-6)


@pytest.mark.parametrize("per_example, expected", [(False, 1.41421), (True, 1.06904)])
def test_vbn_statistics_of_the_batch_or_of_each_example(per_example, expected):
    """papers/segan.md, acceptance fact 5."""
    y = vbn(REFERENCE, per_example=per_example)(np.float32([[[3.0]], [[-1.0]]])).numpy().ravel()
    np.testing.assert_allclose(y, [expected, -expected], atol=2e-5)


def test_vbn_per_example_does_not_see_its_neighbours():
    x = normal(2, 5, 1)
    other = np.concatenate([x[:1], 10 + x[1:]])
    for per_example in (True, False):
        network = vbn(REFERENCE, per_example=per_example)
        same = np.allclose(network(x)[0], network(other)[0], atol=1e-6)
        assert same is per_example


def test_vbn_before_any_reference_is_batch_norm():
    x = 3 + 2 * normal(4, 50, 1)
    y = vbn()(x).numpy()
    assert y.mean() == pytest.approx(0.0, abs=1e-5)
    assert y.std() == pytest.approx(1.0, abs=1e-4)


def test_vbn_with_the_current_batch_as_reference_ignores_a_stored_one():
    x = 3 + 2 * normal(4, 50, 1)
    np.testing.assert_allclose(vbn(REFERENCE, reference="current")(x), vbn()(x), atol=1e-6)


def test_vbn_weights_and_their_start():
    layer = layers.VirtualBatchNorm()
    layer.build([None, 8, 4000])
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]
    assert layer.gamma.numpy().mean() == pytest.approx(1.0, abs=0.002)
    assert layer.gamma.numpy().std() == pytest.approx(0.02, abs=0.002)
    assert not layer.beta.numpy().any()


def test_set_reference_goes_layer_by_layer(tmp_path):
    """The second layer's reference is what comes out of the first, normalised by the reference's own statistics."""
    first, second = layers.VirtualBatchNorm(), layers.VirtualBatchNorm()
    network = keras.Sequential([keras.Input([None, 3]), first, keras.layers.ReLU(), second])
    x = 2 + 3 * normal(5, 7, 3)
    y = tf.function(layers.set_reference)(network, x)
    a = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5) * first.gamma.numpy()
    a = np.maximum(a, 0)
    np.testing.assert_allclose(first.reference_mean, x.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(second.reference_mean, a.mean((0, 1)), atol=1e-5)
    np.testing.assert_allclose(second.reference_square, np.mean(a**2, (0, 1)), atol=1e-5)
    assert float(second.reference_size) == 5
    np.testing.assert_allclose(y, (a - a.mean((0, 1))) / np.sqrt(a.var((0, 1)) + 1e-5) * second.gamma.numpy(), atol=1e-4)
    again = reloaded(network, tmp_path)
    live = normal(2, 7, 3)
    np.testing.assert_array_equal(again(live), network(live))


def test_vbn_call_never_changes_the_reference():
    network = vbn(REFERENCE)
    before = network.get_weights()
    network(np.ones([3, 4, 1], "float32"), training=True)
    for a, b in zip(before, network.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_vbn_gradient_flows_through_the_live_statistics():
    """Against a numerical derivative in one input value."""
    network = vbn(REFERENCE, gamma=1.5)
    x = tf.Variable(normal(2, 3, 1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(x)[0] ** 2)
    gradient = tape.gradient(loss, x)[0, 1, 0]
    losses = []
    for step in (0.01, -0.01):
        moved = x.numpy()
        moved[0, 1, 0] += step
        losses.append(float(tf.reduce_sum(network(moved)[0] ** 2)))
    assert float(gradient) == pytest.approx((losses[0] - losses[1]) / 0.02, rel=1e-2)


def test_vbn_in_bfloat16_keeps_float32_statistics(bfloat16):
    layer = layers.VirtualBatchNorm()
    y = layer(tf.random.normal([2, 5, 3]))
    assert y.dtype == tf.bfloat16
    assert {w.dtype for w in layer.weights} == {"float32"}


def test_vbn_of_a_constant_channel_is_finite():
    y = vbn()(np.full([2, 50, 1], 1000.1, "float32"))
    assert np.isfinite(y).all()


def test_vbn_messages():
    with pytest.raises(ValueError, match="reference is 'live'; expected 'fixed' or 'current'"):
        layers.VirtualBatchNorm(reference="live")
    network = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)], name="d")
    with pytest.raises(ValueError, match="'d' has no VirtualBatchNorm layer"):
        layers.set_reference(network, tf.zeros([1, 3]))


# ---- small layers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.25, -2.5])
def test_gradient_scale_is_exact(scale):
    x = tf.Variable(normal(3, 4))
    layer = layers.GradientScale(scale)
    with tf.GradientTape(persistent=True) as tape:
        y = layer(x)
        plain, scaled = tf.reduce_sum(x**3), tf.reduce_sum(y**3)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(tape.gradient(scaled, x), scale * tape.gradient(plain, x))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradient_scale_can_change_without_retracing(jit_compile):
    layer = layers.GradientScale(-1.0)
    traces = []

    @tf.function(jit_compile=jit_compile)
    def gradient(x):
        traces.append(1)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x)

    assert float(gradient(tf.constant(2.0))) == -1.0
    layer.scale.assign(-0.5)
    assert float(gradient(tf.constant(2.0))) == -0.5
    assert len(traces) == 1


def test_gradient_scale_shares_a_variable_and_saves_its_own(tmp_path):
    shared = tf.Variable(-3.0, trainable=False)
    x = tf.Variable(1.0)
    with tf.GradientTape() as tape:
        y = layers.GradientScale(shared)(x)
    assert float(tape.gradient(y, x)) == -3.0

    network = keras.Sequential([keras.Input([2]), layers.GradientScale(-1.0)])
    network.layers[0].scale.assign(-0.25)
    again = reloaded(network, tmp_path)
    assert float(again.layers[0].scale) == -0.25
    assert not network.trainable_variables


def test_learnable_sigmoid():
    layer = layers.LearnableSigmoid()
    x = np.float32([[0.0, 2.0, -100.0]])
    np.testing.assert_allclose(layer(x), [[0.6, 1.2 / (1 + np.exp(-2.0)), 0.0]], atol=1e-6)
    layer.alpha.assign([1.0, 3.0, 1.0])
    np.testing.assert_allclose(layer(x)[0, 1], 1.2 / (1 + np.exp(-6.0)), rtol=1e-6)
    assert layer.count_params() == 3


@pytest.mark.parametrize("max_slope, expected", [(3.5, 3.5), (None, 11.0)])
def test_learnable_sigmoid_slope_is_clamped_after_an_update(max_slope, expected):
    layer = layers.LearnableSigmoid(max_slope=max_slope)
    layer.build([None, 2])
    optimizer = keras.optimizers.SGD(1.0)
    optimizer.apply([tf.constant([-10.0, 0.0])], layer.trainable_variables)
    np.testing.assert_allclose(layer.alpha, [expected, 1.0], rtol=1e-6)


def test_learnable_sigmoid_saves_and_loads(tmp_path):
    network = keras.Sequential([keras.Input([5]), layers.LearnableSigmoid(beta=1.5, max_slope=2.0)])
    again = reloaded(network, tmp_path)
    assert again.layers[0].get_config() == network.layers[0].get_config()
    assert again.layers[0].alpha.constraint.max_value == 2.0


# ---- export ----------------------------------------------------------------------------------------------------------


def test_quick_paths_survive_export(tmp_path):
    """A SavedModel for any length, with the layers that bring their own gradient."""
    inputs = keras.Input([None, 8, 8])
    x = layers.SpectralNormConv2D(8, 5, padding="same")(inputs)
    x = keras.layers.Reshape((-1, 64))(x)
    model = keras.Model(inputs, layers.GradientScale(-1.0)(layers.FastBLSTM(3)(x)))
    signature = [tf.TensorSpec([None, None, 8, 8], tf.float32)]
    model.export(tmp_path / "saved", input_signature=signature, verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved"))
    x = normal(2, 9, 8, 8)
    np.testing.assert_allclose(served.serve(x), model(x), atol=1e-6)


# ---- several devices -------------------------------------------------------------------------------------------------

TWO_DEVICES = """
import keras, numpy as np, tensorflow as tf
from ganse_tf import layers

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
keras.utils.set_random_seed(0)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def build():
    return keras.Sequential([
        keras.Input([16, 3]), layers.FastConv1D(4, 5, padding="same"), layers.VirtualBatchNorm(), layers.FastBLSTM(3),
        keras.layers.Flatten(), layers.GradientScale(0.5), layers.SpectralNormDense(2), layers.LearnableSigmoid(),
    ])

with strategy.scope():
    network = build()
plain = build()
plain.set_weights(network.get_weights())
x = np.random.normal(size=(2, 16, 3)).astype("float32")

def step(network):
    layers.power_iteration(network)
    layers.set_reference(network, x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(network(x) ** 2)
    gradients = tape.gradient(loss, [v.value for v in network.trainable_variables])
    return loss, tf.linalg.global_norm(gradients)

got = tf.function(lambda: strategy.run(step, args=(network,)))()
expected = tf.function(step)(plain)
for a, b in zip(got, expected):
    for local in strategy.experimental_local_results(a):
        np.testing.assert_allclose(local, b, rtol=1e-5)
for a, b in zip(network.get_weights(), plain.get_weights()):
    np.testing.assert_allclose(a, b, atol=1e-6)
print("equal")
"""


def test_all_layers_on_two_devices():
    """Logical devices must be declared before TensorFlow starts, hence a process of its own."""
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]


def test_standardise_and_its_inverse(tmp_path):
    inputs = keras.Input([None, 2])
    forward, back = layers.Standardise(name="forward"), layers.Standardise(inverse=True, name="back")
    model = keras.Model(inputs, back(forward(inputs)))
    x = 5 * normal(2, 4, 2)
    np.testing.assert_array_equal(model(x), x)  # mean 0 and deviation 1 at first
    model.set_weights([np.array(w) for w in 2 * ([1.0, -2.0], [2.0, 4.0])])  # seen at once, also by the traced model
    np.testing.assert_allclose(forward(x), (x - [1, -2]) / [2, 4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model(x), x, atol=1e-5)
    assert model.trainable_variables == []
    np.testing.assert_array_equal(reloaded(model, tmp_path)(x), model(x))
