"""What the quick paths of ``ganse_tf.layers`` and ``ganse_tf.optimizers`` give; writes benchmarks/layers.md.

    python -m benchmarks.layers [conv blstm fft optimizer]

Each case runs the quick and the stock form in turns, on one thread, and counts CPU time, so that other jobs on the
machine disturb little; the table shows the fastest run of each. Train = forward pass and all gradients.
"""

import argparse
import os
import platform
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

from ganse_tf import layers, optimizers
from ganse_tf.models.metricgan import MetricGAN
from ganse_tf.models.segan import SEGAN

ROUNDS = 5
HEADER = "| case | quick ms | stock ms | stock / quick |\n|---|---:|---:|---:|"


def fastest(*functions):
    """CPU milliseconds of the fastest of ROUNDS runs of each function; two warm-up runs."""
    best = [float("inf")] * len(functions)
    for turn in range(2 + ROUNDS):
        for k, function in enumerate(functions):
            start = time.process_time()
            function()
            if turn >= 2:
                best[k] = min(best[k], 1000 * (time.process_time() - start))
    return best


def line(title, quick, stock):
    a, b = fastest(quick, stock)
    text = f"| {title} | {a:.1f} | {b:.1f} | {b / a:.2f} |"
    print(text, flush=True)
    return text


def forward(layer, *shape):
    x = tf.random.normal(shape)
    layer(x)
    graph = tf.function(layer)
    return lambda: graph(x)


def train(layer, *shape):
    x = tf.random.normal(shape)
    layer(x)

    @tf.function
    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.square(layer(x)))
        return tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])

    return lambda: gradients(x)


def slow(layer):
    """The same layer on its stock path."""
    layer.fast = False
    return layer


def conv():
    options = dict(kernel_size=31, strides=2, padding="same")
    for batch in (1, 4, 16):
        for length, channels, filters in ((16, 512, 1024), (32, 256, 512), (64, 256, 256)):
            make = [train(f(filters, **options), batch, length, channels) for f in (layers.FastConv1D, keras.layers.Conv1D)]
            yield line(f"Conv1D {channels} -> {filters}, {length} steps, batch {batch}, train", *make)
        for length, channels, filters in ((8, 2048, 512), (16, 1024, 256), (32, 512, 256)):
            kinds = layers.FastConv1DTranspose, keras.layers.Conv1DTranspose
            make = [train(f(filters, **options), batch, length, channels) for f in kinds]
            yield line(f"Conv1DTranspose {channels} -> {filters}, {length} steps, batch {batch}, train", *make)


def blstm():
    for batch in (1, 4, 16):
        for name, run in (("train", train), ("forward", forward)):
            quick, stock = layers.FastBLSTM(200), slow(layers.FastBLSTM(200))
            yield line(
                f"BLSTM 257 -> 2 x 200, 157 frames, batch {batch}, {name}",
                run(quick, batch, 157, 257), run(stock, batch, 157, 257),
            )  # fmt: skip


def fft():
    """The inner convolutions of MetricGAN's D (11 x 11 to 7 x 7) and of MetricGAN+'s (5 x 5)."""
    for taps, channels, filters, frames in ((5, 15, 15, 153), (7, 15, 25, 153), (9, 25, 40, 147), (11, 40, 50, 139)):
        for name, run in (("train", train), ("forward", forward)):
            make = [layers.SpectralNormConv2D(filters, taps), slow(layers.SpectralNormConv2D(filters, taps))]
            runs = [run(layer, 1, frames, frames + 100, channels) for layer in make]
            yield line(f"SpectralNormConv2D {taps} x {taps}, {channels} -> {filters}, {frames} frames, {name}", *runs)


def update(optimiser, variables):
    """One optimiser step with fixed random gradients."""
    gradients = [tf.random.normal(v.shape, stddev=0.01) for v in variables]
    optimiser.build(variables)
    return tf.function(lambda: optimiser.apply(gradients, variables))


def optimizer():
    networks = {"SEGAN G, 73.1 M": SEGAN().generator, "MetricGAN D, 0.35 M": MetricGAN(metric="stoi").discriminator}
    for title, network in networks.items():
        for kinds in (
            (optimizers.FusedRMSprop, keras.optimizers.RMSprop),
            (optimizers.FusedAdam, keras.optimizers.Adam),
        ):
            steps = [update(kind(1e-4), network.trainable_variables) for kind in kinds]
            yield line(f"{kinds[1].__name__}, one update of the {title} weights", *steps)


def main():
    parts = {f.__name__: f for f in (conv, blstm, fft, optimizer)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(parts)}; default: all")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    lines = [text for name in options.parts or parts for text in parts[name]()]
    body = "\n".join(lines)
    options.output.write_text(f"""# Quick paths against stock Keras

{HEADER}
{body}

CPU milliseconds on one thread, fastest of {ROUNDS} runs, float32; {platform.machine()}, TensorFlow {tf.__version__}, Keras
{keras.__version__}, Python {platform.python_version()}. Command: `python -m benchmarks.layers`
""")
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
