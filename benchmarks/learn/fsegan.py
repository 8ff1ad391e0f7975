"""FSEGAN learns on the toy corpus, and a digit recogniser reads what it makes: python -m benchmarks.learn.fsegan

The paper's Tables 1 and 2 in small. FSEGAN.tiny() learns from the training speakers' sentences and digit strings, with D off
(the paper's L1-only enhancer) and D on. Then connected digits of other speakers, at SNRs not heard in training, are read
by ASR-Clean and ASR-MTR (trained on clean, on noisy features), by ASR-MTR retrained on enhanced features, and by a hybrid
that reads noisy and enhanced features stacked.
"""

import argparse
import time

import keras
import numpy as np

from benchmarks.learn import common
from ganse_tf import data, optimizers
from ganse_tf.downstream import asr
from ganse_tf.models.fsegan import FSEGAN, log_mel

KINDS = ("white", "pink", "babble")
ROUNDS = 3  # every training utterance so often, with other noise
RATE, BETA_1 = 2e-3, 0.9  # Adam of G; D keeps the paper's 2e-4, 0.5
SPEECH_METRICS = {"si_sdr": "SI-SDR (dB)", "pesq_wb": "PESQ-WB", "stoi": "STOI"}
NAMES = {0.0: "D off (L1 only)", 1.0: "D on (FSEGAN)"}


def training_windows(model, seed):
    """All windows of the training speakers, as a function batch_size -> dataset."""
    found = [p for i in range(ROUNDS) for p in data.toy_pairs("train", None, asr.TRAIN_SNRS_DB, KINDS, seed + i)]
    return common.in_memory(data.examples(found, model, batch_size=64, shuffle=False))


def digits(split, copies, snrs_db, seed):
    """Clean and noisy log-mel spectra of the digit strings of a split."""
    return asr.digit_set(split, lambda wav, rate: log_mel(wav, rate).numpy(), snrs_db, KINDS, copies, seed)


def row(name, model, test, pairs):
    """Log-mel L1 (natural logarithm) of the digits, and scores of the sound through mel gains."""
    estimates = test.noisy if model is None else [model.enhance_features(x) for x in test.noisy]
    l1 = np.mean(np.abs(np.concatenate(estimates) - np.concatenate(test.clean)))
    means = common.score(pairs, model and model.enhance, tuple(SPEECH_METRICS))
    return {"": name, "log-mel L1": float(l1), **{label: means[m] for m, label in SPEECH_METRICS.items()},
            "failures": means["failures"]}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="of FSEGAN")
    parser.add_argument("--batch", type=int, default=8, help="windows per step; the paper's 100 take minutes")
    parser.add_argument("--epochs", type=int, default=20, help="of the two recognisers")
    parser.add_argument("--copies", type=int, default=2, help="noisy versions of every training digit string")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    windows, models, minutes = None, {}, 0.0
    for weight, name in NAMES.items():
        keras.utils.set_random_seed(args.seed)
        model = FSEGAN.tiny(adversarial_weight=weight, seed=args.seed)
        windows = windows or training_windows(model, args.seed)
        g_optimizer = optimizers.FusedAdam(RATE, beta_1=BETA_1)
        minutes += common.train(model, windows(args.batch, args.seed), args.steps, g_optimizer)
        models[name] = model
    train, test = digits("train", args.copies, asr.TRAIN_SNRS_DB, args.seed), digits("test", 2, asr.TEST_SNRS_DB, args.seed)
    pairs = data.toy_pairs("test", n=40, snr_db=asr.TEST_SNRS_DB, kinds=KINDS, seed=args.seed)
    quality = [row("noisy", None, test, pairs)] + [row(name, model, test, pairs) for name, model in models.items()]
    enhancers = {name: lambda d, m=model: [m.enhance_features(x) for x in d.noisy] for name, model in models.items()}
    start = time.process_time()
    wers = asr.compare(train, test, enhancers, args.epochs, seed=args.seed)
    asr_minutes = (time.process_time() - start) / 60
    parts = [
        f"{args.steps} steps of {args.batch} windows (1.28 s), Adam({RATE:g}, {BETA_1}) for G and the paper's for D; "
        f"{', '.join(KINDS)}. {len(test.texts)} noisy digit strings of test speakers (log-mel L1, natural logarithm), and "
        f"{len(pairs)} test utterances heard through mel gains on the noisy STFT:",
        common.markdown(quality, 3),
        f"Word error rates ({sum(len(text.split()) for text in test.texts)} digits; recognisers trained for {args.epochs} "
        f"epochs of {len(train.texts)} digit strings, {asr_minutes:.1f} CPU minutes for all of them):",
        asr.table(wers),
        "Retrained and hybrid recognisers start from ASR-MTR and learn for 6 epochs more, which ASR-MTR itself did not.",
    ]
    common.report("fsegan", "FSEGAN.tiny() on the toy corpus", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
