"""cGAN learns on the toy corpus: python -m benchmarks.learn.cgan

Trains CGAN.tiny() as the paper (all speech in a row, batch 1, 10 and 20 dB only), with D off and D on, on linear and on
logarithmic magnitudes, and scores on test speakers at 0 to 20 dB. Then it measures what batch norm does to the bottleneck.
Because it has minutes, its learning rate starts five times higher than the paper's and falls to 0 by half a cosine.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

from benchmarks.learn import common
from ganse_tf import data
from ganse_tf.downstream import classical
from ganse_tf.models.cgan import CGAN, concatenate

KINDS = ("babble", "white", "pink", "engine")
TRAIN_SNRS_DB, TEST_SNRS_DB = (10, 20), (0, 5, 10, 15, 20)  # section 4.1
METRICS = ("si_sdr", "pesq_wb", "stoi")
LEARNING_RATE = 1e-3  # at the start
TEST_PAIRS = 40


def patches(seed, rounds=2):
    """The training set: every toy utterance `rounds` times with other noise, in a row, cut every 256 frames."""
    pairs = [p for r in range(rounds) for p in data.toy_pairs("train", snr_db=TRAIN_SNRS_DB, kinds=KINDS, seed=seed + r)]
    return concatenate(pairs)


def train(model, batches, steps):
    """CPU minutes of `steps` steps, G's and D's learning rates falling over as many updates as each gets."""
    return common.train(model, batches, steps, *(common.adam(LEARNING_RATE, n * steps) for n in (model.g_steps, 1)))


def trained(steps, seed, **kwargs):
    """A CGAN.tiny() after `steps` steps, and the CPU minutes they took."""
    keras.utils.set_random_seed(seed)
    model = CGAN.tiny(seed=seed, **kwargs)
    batches = data.examples(patches(seed), model, batch_size=1, seed=seed)
    return model, train(model, batches, steps)


def row(name, pairs, enhance):
    means = common.score(pairs, enhance, METRICS)
    worst = common.score([p for p in pairs if p.snr_db == min(TEST_SNRS_DB)], enhance, METRICS[:1])
    return {"": name, "SI-SDR (dB)": means["si_sdr"], "SI-SDR at 0 dB": worst["si_sdr"], "PESQ-WB": means["pesq_wb"],
            "STOI": means["stoi"], "failures": means["failures"]}  # fmt: skip


def bottleneck(seed, steps=3):
    """Share of G's weights that `steps` steps leave as they were, and gradient norms, by batch size and batch norm."""
    rows = []
    for name, batch, kwargs in (
        ("batch 1 (paper)", 1, {}), ("batch 4", 4, {}), ("batch 1, bn_bottleneck=False", 1, {"bn_bottleneck": False}),
    ):  # fmt: skip
        keras.utils.set_random_seed(seed)
        model = CGAN.tiny(seed=seed, **kwargs)
        model.compile()
        noisy, clean = (tf.random.stateless_uniform((batch, 256, 256, 1), (seed, i), -1.0, 1.0) for i in range(2))
        kernels = {layer: model.generator.get_layer(layer).kernel for layer in ("e7", "e8", "d1", "d2")}
        with tf.GradientTape() as tape:
            loss = model.generator_loss(clean, model.generate(noisy, draw=1))[0]
        norms = {f"gradient {n}": float(tf.norm(g)) for n, g in zip(kernels, tape.gradient(loss, list(kernels.values())))}
        before = [v.numpy() for v in model.generator.trainable_variables]
        for _ in range(steps):
            model.train_step((noisy, clean))
        after = model.generator.trainable_variables
        still = sum(int(np.sum(b == a.numpy())) for b, a in zip(before, after))
        rows.append({"": name, "weights that never move": f"{100 * still / sum(b.size for b in before):.1f} %", **norms})
    return rows


def moving_averages(pairs, seed, steps=150):
    """The same trained G with the patch's own statistics and with moving averages in batch norm."""
    model, minutes = trained(steps, seed, bn_stats="moving", adversarial_weight=0.0)
    norm = model.generator.get_layer("e8_bn")
    gain = np.median(1 / np.sqrt(norm.moving_variance.numpy() + norm.epsilon))
    rows = []
    for bn_stats in ("input", "moving"):
        twin = CGAN.tiny(bn_stats=bn_stats)
        twin.generator.set_weights(model.generator.get_weights())
        found = row(f'bn_stats="{bn_stats}"', pairs, twin.enhance)
        rows.append({**found, "median gain of batch norm on e8": f"{gain:.0f}" if bn_stats == "moving" else "-"})
    return rows, minutes


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = data.toy_pairs("test", n=TEST_PAIRS, snr_db=TEST_SNRS_DB, kinds=KINDS, seed=args.seed)
    rows = [row("noisy", pairs, None), row("STSA-MMSE (classical)", pairs, classical.stsa_mmse)]
    minutes = 0.0
    for name, kwargs in {
        "linear, D off": dict(adversarial_weight=0.0), "linear, D on (paper)": {},
        "log, D off": dict(scale="log", adversarial_weight=0.0), "log, D on": dict(scale="log"),
    }.items():  # fmt: skip
        model, used = trained(args.steps, args.seed, **kwargs)
        minutes += used
        rows.append(row(name, pairs, model.enhance))
    averaged, used = moving_averages(pairs, args.seed)
    common.report(
        "cgan",
        "CGAN.tiny() on the toy corpus",
        [
            f"{args.steps} steps of one patch (4.1 s), Adam(0.001 falling to 0), trained at 10 and 20 dB, {', '.join(KINDS)}. "
            f"Test speakers at 0 to 20 dB, {len(pairs)} pairs:",
            common.markdown(rows, 3),
            "Batch norm on the bottleneck, one point of 128 channels (three steps on random patches):",
            common.markdown(bottleneck(args.seed), 3),
            "At test time, after 150 steps with D off:",
            common.markdown(averaged, 3),
        ],
        args.seed,
        minutes + used,
    )


if __name__ == "__main__":
    main()
