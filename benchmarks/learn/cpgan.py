"""CP-GAN learns on the toy corpus: python -m benchmarks.learn.cpgan

Four trainings from the same weights: D off, the global D alone, both D with the mean of the segments, both D with the worst
segment. The adversarial terms have a weight of 0.1: with 1 and so few steps G follows a D that has seen as little. Beside the
usual measures: SI-SDR of the worst quarter second of each utterance, which the worst-segment loss is made for.
"""

import argparse

import keras
import numpy as np

from benchmarks.learn import common
from ganse_tf import data, metrics
from ganse_tf.models.cpgan import CPGAN

KINDS, SNRS_DB = ("babble", "pink", "engine", "wind"), (-5, 0, 5)
BATCH, LEARNING_RATE, D_LEARNING_RATE = 8, 2e-3, 2e-4
WEIGHT = 0.1  # adversarial_weight
PIECE = 4096  # samples, 256 ms
ACTIVE_DB = -30.0  # pieces weaker than this below the loudest are pauses


def batches(model, seed, segments=1024):
    mixer = data.Mixer(
        data.toy_corpus("train"), KINDS, seconds=model.segment / model.sample_rate, level_db=(-25.0, -20.0),
        length=segments, snr_choices=SNRS_DB, seed=seed,
    )  # fmt: skip
    return data.examples(mixer, model, batch_size=BATCH, seed=seed)


def worst_piece(clean, enhanced, rate):
    """SI-SDR (dB) of the worst 256 ms with speech in it."""
    n = len(clean) // PIECE * PIECE
    clean, enhanced = (x[:n].reshape(-1, PIECE) for x in (clean, enhanced))
    power = np.mean(clean**2, axis=1)
    active = power > power.max() * 10 ** (ACTIVE_DB / 10)
    return min(metrics.si_sdr(c, e, rate) for c, e in zip(clean[active], enhanced[active]))


def row(name, pairs, enhance):
    means = common.score(pairs, enhance)
    worst = []
    for pair in pairs:
        noisy, clean, rate = pair.load()
        worst.append(worst_piece(clean, noisy if enhance is None else enhance(noisy, rate), rate))
    return {"": name, "SI-SDR (dB)": means["si_sdr"], "SI-SDR of the worst 256 ms (dB)": float(np.mean(worst)),
            "PESQ-WB": means["pesq_wb"], "STOI": means["stoi"], "failures": means["failures"]}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=24, help="test pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = data.toy_pairs("test", n=args.pairs, snr_db=SNRS_DB, kinds=KINDS, seed=args.seed)
    rows, minutes = [row("noisy", pairs, None)], 0.0
    for name, kwargs in {
        "D off": dict(adversarial_weight=0.0), "global D": dict(local_weight=0.0, adversarial_weight=WEIGHT),
        "global and local D, mean segment": dict(local_reduction="mean", adversarial_weight=WEIGHT),
        "global and local D, worst segment": dict(adversarial_weight=WEIGHT),
    }.items():  # fmt: skip
        keras.utils.set_random_seed(args.seed)
        model = CPGAN.tiny(seed=args.seed, **kwargs)
        rates = common.adam(LEARNING_RATE, args.steps, global_clipnorm=5.0), common.adam(D_LEARNING_RATE, args.steps)
        minutes += common.train(model, batches(model, args.seed), args.steps, *rates)
        rows.append(row(name, pairs, model.enhance))
    text = (
        f"{args.steps} steps of {BATCH} segments (0.256 s), Adam({LEARNING_RATE:g}) falling to 0, trained at {SNRS_DB} dB, "
        f"{', '.join(KINDS)}. Test speakers, same noises and SNRs, {len(pairs)} pairs:"
    )
    title = "CPGAN.tiny() on the toy corpus (a reconstruction)"
    common.report("cpgan", title, [text, common.markdown(rows)], args.seed, minutes)


if __name__ == "__main__":
    main()
