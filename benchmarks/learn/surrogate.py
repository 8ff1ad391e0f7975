"""What must MetricGAN's D see to know a better mask from a worse one? python -m benchmarks.learn.surrogate

G is the released regression. Every toy utterance (2 s, made noise at 0 to 10 dB) is enhanced by G's mask and by random
variants of it (`schedule.variations`); PESQ-WB scores all of them. D's of several kinds learn these scores for equally
many CPU minutes, and are then asked about utterances and speakers they have not heard. "Between": does D rank the
utterances as the metric does? "Within": does it rank the masks of one utterance? The second is the slope G climbs.
"""

import argparse
import time

import keras
import numpy as np

import ganse_tf
from benchmarks.learn import common
from benchmarks.learn.metricgan import KINDS, SECONDS, SNRS_DB, mixer
from ganse_tf.models.metricgan import MetricGAN
from ganse_tf.schedule import variations

VARIANTS = 4  # of each of G's masks
WAYS = {
    "spectra, as MetricGAN+": dict(d_input="spectra"),
    "spectra, strides": dict(d_input="spectra", d_strides=(2, 2, 2, 1)),
    "loudness, strides": dict(d_input="loudness", d_strides=(2, 2, 1, 1)),
}


def scored(split, n, seed):
    """For `n` mixtures: (clean, candidates (2 + VARIANTS, samples), scores): noisy, G's output, its variants."""
    model, rng = ganse_tf.from_preset("metricgan_d_off"), np.random.default_rng([seed, n])
    found = []
    for pair in mixer(split, n, seed):
        grids = np.concatenate([np.zeros((1, 4, 8), np.float32), variations(VARIANTS, rng)])
        enhanced = model.enhance_batch(np.repeat(pair.noisy[None], len(grids), axis=0), grids)[1].numpy()
        candidates = np.concatenate([pair.noisy[None], enhanced])
        scores = model.score(np.repeat(pair.clean[None], len(candidates), axis=0), candidates)
        if np.isfinite(scores).all():  # PESQ finds no speech in a stretch that is mostly pause
            found.append((pair.clean, candidates, scores))
    return found


def learnt(options, train, minutes, seed):
    """A MetricGAN whose D has learnt the scores of `train` for so many CPU minutes, and the milliseconds per candidate."""
    keras.utils.set_random_seed(seed)
    model = MetricGAN.plus(lstm_units=4, dense_units=4, seed=seed, **options)  # its G is not used
    model.compile(d_optimizer=keras.optimizers.Adam(1e-3, beta_1=0.5))
    rng, start, count = np.random.default_rng(seed), time.process_time(), 0
    while time.process_time() - start < 60 * minutes:
        clean, candidates, scores = train[rng.integers(len(train))]
        chosen = rng.permutation(len(scores))[:3]  # and the clean speech itself, a 1 by definition
        batch = np.concatenate([clean[None], candidates[chosen]])
        labels = np.concatenate([[1.0], scores[chosen]]).astype(np.float32)
        model.graph("update_d")(batch, np.repeat(clean[None], len(batch), axis=0), labels)
        count += len(batch)
    return model, 1000 * (time.process_time() - start) / count


def asked(model, test):
    """Mean absolute error on G's outputs, correlation between utterances (G's outputs), and within (masks of one)."""
    predicted = np.array([model.judge(c, np.repeat(clean[None], len(c), axis=0)).numpy() for clean, c, _ in test])
    truth = np.array([scores for _, _, scores in test])
    inside = [x[:, 1:] - x[:, 1:].mean(axis=1, keepdims=True) for x in (predicted, truth)]
    return {
        "mean error": np.abs(predicted - truth)[:, 1].mean(),
        "between": np.corrcoef(predicted[:, 1], truth[:, 1])[0, 1],
        "within": np.corrcoef(inside[0].ravel(), inside[1].ravel())[0, 1],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=400, help="utterances D learns from")
    parser.add_argument("--test", type=int, default=80, help="utterances D is asked about")
    parser.add_argument("--minutes", type=float, default=2.0, help="CPU minutes per D")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    train, test = scored("train", args.train, args.seed), scored("test", args.test, args.seed)
    rows = []
    for name, options in WAYS.items():
        model, ms = learnt(options, train, args.minutes, args.seed)
        weights = model.discriminator.count_params()
        rows.append({"D sees": name, "weights": weights, "CPU ms per candidate": ms, **asked(model, test)})
        print(rows[-1], flush=True)
    text = (
        f"{len(train)} training utterances of {SECONDS:g} s, {len(test)} of other speakers; {', '.join(KINDS)} at "
        f"{SNRS_DB} dB; {2 + VARIANTS} candidates each. Every D learnt for {args.minutes:g} CPU minutes. "
        "Scores are (PESQ-WB + 0.5) / 5. Correlations: between utterances, and within one utterance (five masks)."
    )
    spread = np.std([s[1:] - s[1:].mean() for _, _, s in test]), np.std([s[1] for _, _, s in test])
    more = f"Standard deviation of the true scores: {spread[1]:.3f} between, {spread[0]:.3f} within."
    parts = [text, more, common.markdown(rows, 3)]
    common.report("surrogate", "What MetricGAN's D must see", parts, args.seed, args.minutes * len(WAYS))


if __name__ == "__main__":
    main()
