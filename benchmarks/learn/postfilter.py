"""The GAN postfilter learns on the toy corpus, and perception against distortion: python -m benchmarks.learn.postfilter

Natural speech is over-smoothed; the postfilter has to bring the texture back. The question: does a regression (D off) get
close bin by bin (LSD) and stay too smooth (variance ratio below 1), and does D bring back variance and modulations at the
price of LSD? L1 weights between the two give the curve of the trade-off. All systems go on from the same regression, with a
fifth of its learning rate: with D alone (L1 weight 0) and from nothing, G diverges at 1e-3.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

from benchmarks.learn import common
from ganse_tf import data, metrics, oversmooth, presets
from ganse_tf.models.postfilter import BETA_1, GANPostfilter
from ganse_tf.optimizers import FusedAdam

BATCH = 4
LEARNING_RATE, SECOND_RATE = 1e-3, 2e-4  # the 1e-4 of `default_optimizers` is for long trainings
L1_WEIGHTS = (0.0, 1.0, 10.0)


def measures(model, pairs, enhance):
    """Measures of log amplitudes over all pairs together, and of the waveforms; `enhance` is None for the input."""
    natural, made = [], []
    for pair in pairs:
        smooth, clean, rate = pair.load()
        natural.append(model.log_amplitude(clean).numpy())
        made.append(model.log_amplitude(smooth).numpy())
        if enhance:
            made[-1] = enhance(made[-1]).numpy()
    lsd = np.concatenate([metrics.log_spectral_distance(np.exp(x), np.exp(y)) for x, y in zip(natural, made)]).mean()
    natural, made = np.concatenate(natural), np.concatenate(made)
    wavs = common.score(pairs, model.enhance if enhance else None, ("si_sdr",))
    return {
        "variance ratio": float(oversmooth.variance_ratio(natural, made).mean()),
        "LSD (dB)": float(lsd),
        "modulation distance (dB)": oversmooth.modulation_distance(natural, made),
        "SI-SDR (dB)": wavs["si_sdr"],
        "failures": wavs["failures"],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--utterances", type=int, default=22, help="test utterances")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    test = data.toy_corpus("test")
    test = test[:: max(len(test) // args.utterances, 1)]
    train_pairs, test_pairs = oversmooth.pairs(data.toy_corpus("train")), oversmooth.pairs(test)
    rows, minutes, start = [], 0.0, None
    systems = [("D off, L1 alone", 0.0, 1.0), ("D off, L1 alone, twice the steps", 0.0, 1.0)]
    systems += [(f"D on, L1 weight {w:g}", 1.0, w) for w in reversed(L1_WEIGHTS)]
    for name, adversarial_weight, l1_weight in systems:
        keras.utils.set_random_seed(args.seed)
        model = GANPostfilter.tiny(adversarial_weight=adversarial_weight, l1_weight=l1_weight, seed=args.seed)
        if not rows:
            rows.append({"": "over-smoothed (input)", **measures(model, test_pairs, None)})
        if start:
            presets.load_arrays(model, presets.arrays(start))
        optimisers = (FusedAdam(SECOND_RATE if start else LEARNING_RATE, beta_1=BETA_1) for _ in "GD")
        batches = data.examples(train_pairs, model, batch_size=BATCH, seed=args.seed)
        minutes += common.train(model, batches, args.steps, *optimisers)
        start = start or model
        enhance = tf.function(model.enhance_log_amplitude, input_signature=[tf.TensorSpec([None, model.bins], tf.float32)])
        rows.append({"": name, **measures(model, test_pairs, enhance)})
    parts = [
        f"{args.steps} steps of {BATCH} examples of {model.frames} frames with D off, Adam({LEARNING_RATE:g}, beta_1 = "
        f"{BETA_1:g}); every other row has had as many again from there, Adam({SECOND_RATE:g}). "
        f"{len(test_pairs)} utterances of test speakers. Variance ratio, LSD and modulation distance are of the log amplitudes "
        "before the inverse transform (a ratio of 1 is natural); SI-SDR is of the waveform:",
        common.markdown(rows),
        "The trade-off: read variance ratio (perception) against LSD (distortion) from top to bottom.",
    ]
    common.report("postfilter", "GANPostfilter.tiny() on over-smoothed toy speech", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
