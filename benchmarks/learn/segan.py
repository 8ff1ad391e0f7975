"""SEGAN learns on the toy corpus: python -m benchmarks.learn.segan

Trains SEGAN.tiny() with D off and D on at -5, 0 and 5 dB and scores on test speakers. The paper's RMSprop(2e-4) is for 86
epochs; here it is Adam, whose learning rate starts at 1e-3 and falls to 0 by half a cosine.
"""

import argparse

import keras

from benchmarks.learn import common
from ganse_tf import data
from ganse_tf.models.segan import SEGAN

KINDS, SNRS_DB = ("babble", "engine", "pink", "wind"), (-5, 0, 5)
BATCH, LEARNING_RATE, D_LEARNING_RATE = 4, 1e-3, 2e-4
LEVEL_DB = (-25.0, -20.0)  # RMS of the clean speech before mixing
UPDATE_NORM = 5.0  # larger gradients are scaled down to it


def batches(model, seed, segments=512):
    mixer = data.Mixer(
        data.toy_corpus("train"), KINDS, seconds=model.segment / model.sample_rate, level_db=LEVEL_DB, length=segments,
        snr_choices=SNRS_DB, seed=seed,
    )  # fmt: skip
    return data.examples(mixer, model, batch_size=BATCH, seed=seed)


def row(name, pairs, enhance):
    means = common.score(pairs, enhance)
    return {"": name, "SI-SDR (dB)": means["si_sdr"], "PESQ-WB": means["pesq_wb"], "STOI": means["stoi"],
            "failures": means["failures"]}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=24, help="test pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = data.toy_pairs("test", n=args.pairs, snr_db=SNRS_DB, kinds=KINDS, seed=args.seed)
    rows, minutes = [row("noisy", pairs, None)], 0.0
    for name, kwargs in {"D off": dict(adversarial_weight=0.0), "D on": {}}.items():
        keras.utils.set_random_seed(args.seed)
        model = SEGAN.tiny(seed=args.seed, **kwargs)
        rates = (common.adam(rate, args.steps, global_clipnorm=UPDATE_NORM) for rate in (LEARNING_RATE, D_LEARNING_RATE))
        minutes += common.train(model, batches(model, args.seed), args.steps, *rates)
        rows.append(row(name, pairs, model.enhance))
    text = (
        f"{args.steps} steps of {BATCH} segments (1.024 s), Adam({LEARNING_RATE:g}) falling to 0, trained at {SNRS_DB} dB, "
        f"{', '.join(KINDS)}. Test speakers, same noises and SNRs, {len(pairs)} pairs:"
    )
    common.report("segan", "SEGAN.tiny() on the toy corpus", [text, common.markdown(rows)], args.seed, minutes)


if __name__ == "__main__":
    main()
