"""UNetGAN learns on the toy corpus at very low SNR: python -m benchmarks.learn.unetgan

Trains at the paper's SNRs (0, -5, -10, -15 dB) on four kinds of noise, with D off and D on, and scores on test speakers at
the paper's test SNRs (0 to -20 dB), for the kinds heard in training and for one that was not. The paper's finding: large
gains at -20 dB for noise it knows, small ones for noise it does not. At our levels lambda times the squared error is far
smaller than the adversarial term, so D is switched on with the paper's weight and with one that makes both terms alike; and
`final_input_skip` is switched off once.
"""

import argparse

import keras
import numpy as np

from benchmarks.learn import common
from ganse_tf import data
from ganse_tf.models.unetgan import TEST_SNRS_DB, TRAIN_SNRS_DB, UNetGAN
from ganse_tf.optimizers import FusedAdam

SEEN, UNSEEN = ("babble", "engine", "pink", "wind"), ("speech_shaped",)
METRICS = ("si_sdr", "stoi", "pesq_nb")
G_RATE, D_RATE = 3e-3, 1e-3  # the paper's 2e-4 for both is for 58,000 steps
ADVERSARIAL = 0.02  # adversarial_weight that makes both terms of G's loss alike here
LEVEL_DB = (-25.0, -20.0)  # RMS of the clean speech before mixing


def batches(model, seed, segments=512):
    mixer = data.Mixer(
        data.toy_corpus("train"), SEEN, seconds=model.segment / model.sample_rate, level_db=LEVEL_DB, length=segments,
        snr_choices=TRAIN_SNRS_DB, seed=seed,
    )  # fmt: skip
    return data.examples(mixer, model, batch_size=8, seed=seed)


def trained(steps, seed, **kwargs):
    """A UNetGAN.tiny() after `steps` steps, and the minutes they took."""
    keras.utils.set_random_seed(seed)
    model = UNetGAN.tiny(seed=seed, **kwargs)
    rates = FusedAdam(G_RATE), FusedAdam(D_RATE)
    return model, common.train(model, batches(model, seed), steps, *rates)


def tests(kinds, snrs_db, n, seed):
    return data.toy_pairs("test", n=n, snr_db=snrs_db, kinds=kinds, seed=seed)


def row(name, pairs, enhance):
    means = common.score(pairs, enhance, METRICS)
    return {"": name, "SI-SDR (dB)": means["si_sdr"], "STOI": means["stoi"], "PESQ-NB (MOS-LQO)": means["pesq_nb"],
            "failures": means["failures"]}  # fmt: skip


def by_snr(models, n, seed):
    """STOI and SI-SDR at each test SNR, seen and unseen noise."""
    found = {"stoi": [], "si_sdr": []}
    for kinds, what in ((SEEN, "seen"), (UNSEEN, "unseen")):
        for name, enhance in models.items():
            scores = [common.score(tests(kinds, snr, n, seed), enhance, list(found)) for snr in TEST_SNRS_DB]
            for measure, rows in found.items():
                values = [s[measure] for s in scores]
                cells = {f"{snr} dB": value for snr, value in zip(TEST_SNRS_DB, values)}
                rows.append({"noise": what, "": name, "measure": measure, **cells, "mean": float(np.mean(values))})
    return [*found["stoi"], *found["si_sdr"]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--pairs", type=int, default=16, help="test pairs per condition")
    parser.add_argument("--saturating", action="store_true", help="train with eq. 2 as printed, too")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    off, minutes_off = trained(args.steps, args.seed, adversarial_weight=0.0)
    on, minutes_on = trained(args.steps, args.seed, adversarial_weight=ADVERSARIAL)
    models = {"noisy": None, "D off": off.enhance, f"D on, weight {ADVERSARIAL}": on.enhance}
    pairs = tests(SEEN, TRAIN_SNRS_DB, None, args.seed)
    rows = [row(name, pairs, enhance) for name, enhance in models.items()]
    for name, kwargs in {
        "D on, weight 1 (paper)": {},
        "D off, final_input_skip off (paper)": dict(adversarial_weight=0.0, final_input_skip=False),
    }.items():
        model, minutes = trained(args.steps, args.seed, **kwargs)
        minutes_on += minutes
        rows.append(row(name, pairs, model.enhance))
    chunked = UNetGAN.tiny(inference="chunked")
    chunked.generator.set_weights(on.generator.get_weights())
    rows.append(row(f"D on, weight {ADVERSARIAL}, enhanced in blocks of 0.5 s", pairs, chunked.enhance))
    if args.saturating:
        saturating, minutes = trained(args.steps, args.seed, adv_mode="saturating")
        rows.append(row("D on, weight 1, eq. 2 as printed (saturating)", pairs, saturating.enhance))
        minutes_on += minutes
    common.report(
        "unetgan",
        "UNetGAN.tiny() on the toy corpus",
        [
            f"{args.steps} steps of 8 segments (0.512 s), Adam({G_RATE:g}) for G and Adam({D_RATE:g}) for D, 0 to -15 dB, "
            f"{', '.join(SEEN)}. "
            f"Test speakers, same SNRs and kinds of noise, {len(pairs)} pairs:",
            common.markdown(rows, 3),
            f"At the paper's test SNRs ({args.pairs} pairs each; unseen: {', '.join(UNSEEN)}):",
            common.markdown(by_snr(models, args.pairs, args.seed), 2),
        ],
        args.seed,
        minutes_off + minutes_on,
    )


if __name__ == "__main__":
    main()
