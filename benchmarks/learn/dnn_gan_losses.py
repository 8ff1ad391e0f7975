"""L1 against L2, the second study of the DNN-GAN paper: python -m benchmarks.learn.dnn_gan_losses

Six times the same network without D: three targets (ideal ratio mask, STFT magnitude, spectral magnitude mask), each
with the absolute and the squared error. The paper's Tables 3 and 4 in small; its finding: L1 gives better PESQ than L2
for every target, for STOI it depends on the target.

Without options it uses the toy corpus. With folders of real recordings (16 kHz):

    python -m benchmarks.learn.dnn_gan_losses --name dnn_gan_losses_real --speech SPEECH --test-speech OTHER_SPEAKERS \
        --noise NOISE --test-noise OTHER_NOISE
"""

import argparse
import shlex
import sys

import keras

from benchmarks.learn import common
from benchmarks.learn.dnn_gan import METRICS, SEEN, TEST_SNRS_DB, TRAIN_SNRS_DB, UNSEEN, UPDATE, train
from ganse_tf import data
from ganse_tf.models.dnn_gan import DNNGAN

MODULE = "benchmarks.learn.dnn_gan_losses"
TARGETS = {"irm": "IRM", "stft": "STFT", "smm": "SMM"}
LOSSES = {"L1": dict(l1_weight=1.0, l2_weight=0.0), "L2": dict(l1_weight=0.0, l2_weight=1.0)}


def corpora(args):
    """Training pairs, test pairs with noise heard in training, test pairs with other noise, and what to call them."""
    if not args.speech:
        train = data.toy_pairs("train", snr_db=TRAIN_SNRS_DB, kinds=SEEN, seed=args.seed)
        tests = [data.toy_pairs("test", snr_db=TEST_SNRS_DB, kinds=kinds, seed=args.seed) for kinds in (SEEN, UNSEEN)]
        return train, tests, f"the toy corpus; noise: {', '.join(SEEN)}; not heard in training: {', '.join(UNSEEN)}"
    cut = dict(seconds=args.seconds, seed=args.seed)
    train = data.Mixer(args.speech, args.noise, length=args.pairs, snr_choices=TRAIN_SNRS_DB, part=(0, 0.7), **cut)
    tests = []
    for noise, part in ((args.noise, (0.7, 1)), (args.test_noise, (0, 1))):
        cut |= dict(length=args.test_pairs, part=part)
        tests.append([p for snr in TEST_SNRS_DB for p in data.pairs(data.Mixer(args.test_speech, noise, snr, **cut))])
    return data.pairs(train), tests, args.what


def table(rows):
    """{(target, loss): means} -> one row per target, L1 / L2 side by side as in the paper; the noisy input first."""
    noisy = {"target": "noisy input", **{label: f"{rows['noisy'][metric]:.2f}" for metric, label in METRICS.items()}}
    found = [{**noisy, "failures": str(rows["noisy"]["failures"])}]
    for target, title in TARGETS.items():
        pair = [rows[target, loss] for loss in LOSSES]
        cells = {label: " / ".join(f"{means[metric]:.2f}" for means in pair) for metric, label in METRICS.items()}
        found.append({"target": title, **cells, "failures": " / ".join(str(means["failures"]) for means in pair)})
    return common.markdown(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="dnn_gan_losses", help="of the file with the table")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speech", help="folder of clean training speech; default: the toy corpus")
    parser.add_argument("--test-speech", help="folder of clean test speech, other speakers")
    parser.add_argument("--noise", nargs="+", help="noise: 70 %% of each recording for training")
    parser.add_argument("--test-noise", nargs="+", help="noise recordings of other kinds")
    parser.add_argument("--what", default="real speech and noise", help="what these recordings are, for the report")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a real pair")
    parser.add_argument("--pairs", type=int, default=250, help="real training pairs")
    parser.add_argument("--test-pairs", type=int, default=24, help="real test pairs per SNR")
    args = parser.parse_args()
    pairs, tests, what = corpora(args)
    minutes, rows = 0.0, [{"noisy": scores(test, None)} for test in tests]
    for target in TARGETS:
        windows = None
        for loss, weights in LOSSES.items():
            keras.utils.set_random_seed(args.seed)
            model = DNNGAN.tiny(target=target, use_z=False, adversarial_weight=0.0, seed=args.seed, **weights)
            windows = windows or common.in_memory(data.examples(pairs, model, batch_size=4096, shuffle=False))
            minutes += train(model, windows(UPDATE, args.seed), args.steps)
            for row, test in zip(rows, tests):
                row[target, loss] = scores(test, model.enhance)
    parts = [
        f"{args.steps} updates on {UPDATE} windows, {len(pairs)} training pairs at -5 and 0 dB, 256 hidden units, "
        f"no z, no D; {what}. Means over -5, 0 and 5 dB; every cell is L1 / L2. Failures are scores that do not exist "
        "because an output is silent (a ReLU mask can be 0 everywhere); the means leave them out."
    ]
    for heard, row, test in zip(("heard in training", "not heard in training"), rows, tests):
        parts += [f"Noise {heard}, {len(test)} pairs:", table(row)]
    title = "L1 against L2 (DNN-GAN, Tables 3 and 4 in small)"
    common.report(args.name, title, parts, args.seed, minutes, shlex.join(["python", "-m", MODULE, *sys.argv[1:]]))


def scores(pairs, enhance):
    means = common.score(pairs, enhance, tuple(METRICS))
    return {**means, "stoi": 100 * means["stoi"]}


if __name__ == "__main__":
    main()
