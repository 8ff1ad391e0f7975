"""S-ForkGAN learns on the toy corpus: python -m benchmarks.learn.sforkgan

Three trainings: with the fork and D off, with the fork and D on, and D on without the fork (no noise decoder, no margin).
Each one with a fork gives three outputs: the speech decoder s^, the spectral subtraction s - v^, and their average. The
paper judges by a recogniser, so a small one is trained on clean and on multi-condition speech and its errors are counted:
frames (the most probable of 31 senones is wrong) and digits.
"""

import argparse

import keras
import numpy as np

from benchmarks.learn import common
from ganse_tf import data, noises
from ganse_tf.downstream import classical, senone
from ganse_tf.models.sforkgan import OUTPUTS, SForkGAN
from ganse_tf.optimizers import FusedAdam

SEEN, UNSEEN = ("babble", "engine", "pink", "wind"), ("speech_shaped", "white")
SNRS_DB = (-5, 0, 5, 10)
BATCH, LEARNING_RATE = 16, 1e-3  # Adam; the default, RMSprop(2e-4), is slower in so few steps
RECOGNISER_EPOCHS = 20
PENALTIES = (0.0, 3.0, 6.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)  # nats per word


def training_windows(model, seed):
    """All windows of the training speakers, as a function batch_size -> dataset."""
    pairs = data.toy_pairs("train", snr_db=SNRS_DB, kinds=SEEN, seed=seed)
    return common.in_memory(data.examples(pairs, model, batch_size=512, shuffle=False))


def features(wav, rate):
    return senone.splice(senone.add_deltas(senone.lfb(wav, rate)))


class Recogniser:
    """Frame classifier and digit decoder, trained on clean or on noisy toy speech; word penalty from other speakers."""

    def __init__(self, train_set, valid_set, noisy, seed):
        keras.utils.set_random_seed(seed)
        side = 0 if noisy else 1
        x, labels, _ = self.prepare([item[side] for item in train_set], train_set)
        self.normalise, self.prior = senone.normaliser(x), senone.priors(labels)
        self.model = senone.tiny_dnn(x[0].shape[1])
        senone.train(self.model, [self.normalise(f) for f in x], labels, epochs=RECOGNISER_EPOCHS, seed=seed)
        x, _, texts = self.prepare([item[side] for item in valid_set], valid_set)
        found = senone.posteriors(self.model, [self.normalise(f) for f in x])
        self.penalty = min(PENALTIES, key=lambda p: senone.digit_error(found, texts, self.prior, p))

    @staticmethod
    def prepare(wavs, items):
        """Features, frame labels and texts of waveforms that say what `items` say."""
        x = [np.asarray(features(wav, rate)) for wav, (_, _, rate, _) in zip(wavs, items)]
        return x, [senone.alignments(u, len(f)) for f, (*_, u) in zip(x, items)], [u.text for *_, u in items]

    def errors(self, wavs, items):
        """(frame error, digit error) in percent."""
        x, labels, texts = self.prepare(wavs, items)
        found = senone.posteriors(self.model, [self.normalise(f) for f in x])
        digit_error = senone.digit_error(found, texts, self.prior, self.penalty)
        return 100 * senone.senone_error(found, labels), 100 * digit_error


def digits(split, seed, n=None):
    """(noisy, clean, rate, utterance) of the digit strings of one split."""
    rng, made = np.random.default_rng(seed), []
    for utterance in [u for u in data.toy_corpus(split) if u.words][:n]:
        kind, snr_db = SEEN[rng.integers(len(SEEN))], SNRS_DB[rng.integers(len(SNRS_DB))]
        noise = noises.make(kind, len(utterance.wav), utterance.sample_rate, seed=int(rng.integers(2**31)))
        noisy, clean = data.mix(utterance.wav, noise, snr_db)
        made.append((noisy, clean, utterance.sample_rate, utterance))
    return made


def with_output(model, output):
    """A trained model with another output."""
    twin = SForkGAN.from_config({**model.get_config(), "output": output})
    twin.set_weights(model.get_weights())
    return twin.enhance


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=24, help="test pairs per table")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    systems, minutes, windows = {"noisy": None, "spectral subtraction (classical)": classical.spectral_subtraction}, 0.0, None
    for name, kwargs in {
        "fork, D off": dict(adversarial_weight=0.0), "fork, D on": {},
        "no fork, D on": dict(reduction_weight=0.0, margin_weight=0.0),
    }.items():  # fmt: skip
        keras.utils.set_random_seed(args.seed)
        model = SForkGAN.tiny(seed=args.seed, **kwargs)
        windows = windows or training_windows(model, args.seed)
        rates = FusedAdam(LEARNING_RATE, beta_1=0.5), FusedAdam(LEARNING_RATE / 5, beta_1=0.5)
        minutes += common.train(model, windows(BATCH, args.seed), args.steps, *rates)
        for output in OUTPUTS if model.reduction_weight else OUTPUTS[:1]:
            systems[f"{name}: {output}"] = with_output(model, output)

    parts = [
        f"{args.steps} steps of {BATCH} windows, Adam({LEARNING_RATE:g}), {', '.join(SEEN)}; {SNRS_DB} dB. Test speakers:"
    ]
    for kinds, what in ((SEEN, "heard"), (UNSEEN, "not heard")):
        pairs = data.toy_pairs("test", n=args.pairs, snr_db=SNRS_DB, kinds=kinds, seed=args.seed)
        rows = []
        for name, enhance in systems.items():
            means = common.score(pairs, enhance, ("si_sdr", "pesq_wb", "stoi", "lsd"))
            rows.append({"": name, "SI-SDR (dB)": means["si_sdr"], "PESQ-WB": means["pesq_wb"], "STOI": means["stoi"],
                         "LSD (dB)": means["lsd"], "failures": means["failures"]})  # fmt: skip
        parts += [f"Noise {what} in training ({', '.join(kinds)}), {len(pairs)} pairs:", common.markdown(rows)]

    train_set, test_set = digits("train", args.seed), digits("test", args.seed + 1, args.pairs)
    valid_set = digits("valid", args.seed + 2)
    recognisers = {name: Recogniser(train_set, valid_set, noisy, args.seed)
                   for name, noisy in (("clean", False), ("multi-condition", True))}  # fmt: skip
    rows = []
    for name, enhance in systems.items():
        wavs = [noisy if enhance is None else enhance(noisy, rate) for noisy, _, rate, _ in test_set]
        row = {"": name}
        for trained_on, recogniser in recognisers.items():
            row[f"frame error % ({trained_on})"], row[f"digit error % ({trained_on})"] = recogniser.errors(wavs, test_set)
        rows.append(row)
    clean = {"": "clean speech"}
    for trained_on, recogniser in recognisers.items():
        found = recogniser.errors([c for _, c, *_ in test_set], test_set)
        clean[f"frame error % ({trained_on})"], clean[f"digit error % ({trained_on})"] = found
    parts += [f"Recognisers trained on clean and on noisy speech, {len(test_set)} digit strings of the test speakers, noise "
              "heard in training:", common.markdown([*rows, clean], 1)]  # fmt: skip
    common.report("sforkgan", "SForkGAN.tiny() on the toy corpus", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
