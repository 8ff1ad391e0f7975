"""The fused optimisers give the stock numbers, keep the stock state and step aside where they should."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from ganse_tf.optimizers import FusedAdam, FusedRMSprop

ROOT = Path(__file__).parents[1]
PAIRS = {"rmsprop": (FusedRMSprop, keras.optimizers.RMSprop), "adam": (FusedAdam, keras.optimizers.Adam)}
OPTIONS = {
    "plain": {},
    "epsilon 1e-10": {"epsilon": 1e-10},
    "epsilon 0.1": {"epsilon": 0.1},
    "clipnorm": {"clipnorm": 0.5},
    "global clipnorm": {"global_clipnorm": 0.5},
    "weight decay": {"weight_decay": 0.01},
    "moving average": {"use_ema": True, "ema_overwrite_frequency": 3},
    "accumulation": {"gradient_accumulation_steps": 2},
}
START = [np.linspace(-1, 1, 12, dtype="float32").reshape(3, 4), np.float32([0.0, 0.01, 2.0]), np.float32(0.5)]
LEARNING_RATE = 1e-3


def run(optimizer, steps=6, as_graph=True, jit_compile=False):
    """Minimise an uneven bowl (gradients from 1 to 1e-6 and 0); return the final variables and the optimiser's state."""
    variables = [keras.Variable(v) for v in START]
    optimizer.build(variables)

    def step():
        with tf.GradientTape() as tape:
            a, b, c = (tf.convert_to_tensor(v) for v in variables)
            loss = tf.reduce_sum(tf.cosh(a)) + 1e-4 * tf.reduce_sum(b**2) + 0.0 * c
        optimizer.apply(tape.gradient(loss, [v.value for v in variables]), variables)

    step = tf.function(step, jit_compile=jit_compile) if as_graph else step
    for _ in range(steps):
        step()
    return [v.numpy() for v in variables], [v.numpy() for v in optimizer.variables]


def assert_equal(fused, stock, tolerance=1e-6):
    for got, expected in zip(fused[0], stock[0], strict=True):
        np.testing.assert_allclose(got, expected, atol=tolerance, rtol=0)
    for got, expected in zip(fused[1], stock[1], strict=True):  # 1 - beta_2 = 0.001 has 5 digits in Adam's kernel
        np.testing.assert_allclose(got, expected, rtol=100 * tolerance, atol=1e-3 * tolerance)


@pytest.mark.parametrize("as_graph", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("kind", PAIRS)
def test_same_numbers_and_state_as_stock(kind, options, as_graph):
    fused, stock = (cls(learning_rate=LEARNING_RATE, **OPTIONS[options]) for cls in PAIRS[kind])
    got, expected = run(fused, as_graph=as_graph), run(stock, as_graph=as_graph)
    assert_equal(got, expected)
    assert np.abs(got[0][0] - START[0]).max() > LEARNING_RATE  # it moved by far more than the tolerance


@pytest.mark.parametrize("kind", PAIRS)
def test_learning_rate_schedule(kind):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, decay_steps=2, decay_rate=0.5)
    fused, stock = (cls(learning_rate=schedule) for cls in PAIRS[kind])
    assert_equal(run(fused), run(stock))


@pytest.mark.parametrize(
    "kind, options",
    [("rmsprop", {"momentum": 0.9}), ("rmsprop", {"centered": True}), ("adam", {"amsgrad": True})],
)
def test_options_the_kernel_does_not_know_are_bit_equal_to_stock(kind, options):
    fused, stock = (cls(learning_rate=LEARNING_RATE, **options) for cls in PAIRS[kind])
    assert_equal(run(fused), run(stock), tolerance=0)


@pytest.mark.parametrize("kind, kernel", [("rmsprop", "ResourceApplyRMSProp"), ("adam", "ResourceApplyAdam")])
def test_the_kernel_is_really_used(kind, kernel):
    def kernels(optimizer):
        variable = keras.Variable([1.0, 2.0])
        optimizer.build([variable])
        graph = tf.function(lambda: optimizer.apply([tf.ones([2])], [variable])).get_concrete_function().graph
        return [op.type for op in graph.get_operations()]

    fused, stock = PAIRS[kind]
    assert kernel in kernels(fused())
    assert kernel not in kernels(stock())


@pytest.mark.parametrize("kind", PAIRS)
def test_under_xla(kind):
    fused, stock = (cls(learning_rate=LEARNING_RATE) for cls in PAIRS[kind])
    assert_equal(run(fused, jit_compile=True), run(stock))


@pytest.mark.parametrize("kind", PAIRS)
def test_state_can_be_exchanged_with_stock(kind):
    """3 steps with the stock optimiser, then 3 with the fused one, equal 6 with the stock one."""
    fused_class, stock_class = PAIRS[kind]

    def steps(optimizer, variables, n):
        for k in range(n):
            optimizer.apply([tf.convert_to_tensor(v) * (k + 1.0) for v in variables], variables)

    variables, reference = [keras.Variable(START[0])], [keras.Variable(START[0])]
    first, second, whole = (cls(LEARNING_RATE) for cls in (stock_class, fused_class, stock_class))
    steps(first, variables, 3)
    second.build(variables)
    store = {}
    first.save_own_variables(store)
    second.load_own_variables(store)
    steps(second, variables, 3)
    steps(whole, reference, 3)
    steps(whole, reference, 3)
    np.testing.assert_allclose(variables[0].numpy(), reference[0].numpy(), atol=1e-6)


def test_loading_a_good_state_heals_a_broken_run():
    variable = keras.Variable([1.0, 2.0])
    optimizer = FusedRMSprop(0.1)
    optimizer.build([variable])
    good = {}
    optimizer.save_own_variables(good)
    good = {k: np.array(v) for k, v in good.items()}
    optimizer.apply([tf.constant([np.nan, 1.0])], [variable])
    assert np.isnan(variable.numpy()[0])
    variable.assign([1.0, 2.0])
    optimizer.load_own_variables(good)
    optimizer.apply([tf.ones([2])], [variable])
    assert np.isfinite(variable.numpy()).all()


@pytest.mark.parametrize("kind", PAIRS)
def test_config_round_trip(kind):
    fused = PAIRS[kind][0](learning_rate=2e-4, epsilon=1e-10, clipnorm=1.0)
    clone = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(fused))
    assert type(clone) is type(fused)
    assert clone.get_config() == fused.get_config()


@pytest.mark.parametrize("kind", PAIRS)
def test_sparse_gradient_of_an_embedding(kind):
    def after(optimizer):
        keras.utils.set_random_seed(0)
        embedding = keras.layers.Embedding(5, 3)
        embedding.build([None])
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(embedding(tf.constant([1, 1, 4])) ** 2)
        optimizer.apply(tape.gradient(loss, [embedding.embeddings.value]), [embedding.embeddings])
        return embedding.embeddings.numpy()

    fused, stock = PAIRS[kind]
    np.testing.assert_allclose(after(fused(0.1)), after(stock(0.1)), atol=1e-6)


@pytest.mark.parametrize("kind", PAIRS)
def test_loss_scaling(kind):
    """Inside LossScaleOptimizer the gradients are unscaled before the update and a step with inf is left out."""

    def after_three_steps(optimizer):
        variable = keras.Variable([1.0, -2.0])
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=8.0)
        optimizer.build([variable])
        step = tf.function(lambda gradient: optimizer.apply([gradient], [variable]))
        for gradient in ([8.0, 16.0], [np.inf, 1.0], [-8.0, 4.0]):
            step(tf.constant(gradient))
        return variable.numpy()

    fused, stock = (after_three_steps(cls(0.01)) for cls in PAIRS[kind])
    np.testing.assert_allclose(fused, stock, atol=1e-6)
    assert np.isfinite(fused).all()


TWO_DEVICES = """
import keras, tensorflow as tf
from ganse_tf.optimizers import FusedAdam, FusedRMSprop

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for kinds in ((FusedRMSprop, keras.optimizers.RMSprop), (FusedAdam, keras.optimizers.Adam)):
    results = []
    for kind in kinds:
        with strategy.scope():
            variable, optimizer = keras.Variable([1.0, -2.0]), kind(0.01)
            optimizer.build([variable])
        step = tf.function(lambda: strategy.run(lambda: optimizer.apply([tf.constant([1.0, 3.0])], [variable])))
        for _ in range(3):
            step()
        results.append(variable.value.numpy().tolist())
    assert results[0] == results[1], results
    assert results[0][0] < 0.98, results
print("equal")
"""


def test_two_devices_use_the_stock_update():
    """Logical devices must be declared before TensorFlow starts, hence a process of its own."""
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip().endswith("equal"), done.stderr[-2000:]
