"""AFM learns on the toy corpus, judged by recognisers: python -m benchmarks.learn.afm

The paper's two tables in small. A: an acoustic model that has only heard clean speech decodes noisy features and features
mapped by FM (squared error alone), AFM (with D) and SA-AFM. B: an acoustic model M trained on clean and noisy speech
decodes noisy features; then it is trained further together with F, without D (SA-FM) and with it (SA-AFM).
Senone error: share of frames whose best state is wrong. Digit error: word error of the Viterbi search over digits.
"""

import argparse
import time

import keras
import numpy as np

from benchmarks.learn import common
from ganse_tf import data, optimizers
from ganse_tf.downstream import senone
from ganse_tf.models.afm import AFM

TRAIN_SNRS_DB, TEST_SNRS_DB = (0, 5, 10, 15), (0, 5, 10)
SEEN, UNSEEN = ("babble", "engine", "pink", "speech_shaped", "wind"), ("clicks", "white")
RATES = {"FM": (2e-3, 2e-3), "AFM": (5e-4, 1e-3), "SA": (5e-4, 1e-3)}  # Adam, of F (and M), and of D
BATCH = 64  # stretches of 1 s
NOISES = 4  # noisy versions of every training utterance


def train(model, batches, steps, rates):
    """CPU minutes; `batches` as from `common.in_memory`."""
    adam = (optimizers.FusedAdam(rate, global_clipnorm=5.0) for rate in rates)
    return common.train(model, batches(BATCH, model.seed), steps, *adam)


def start_from(model, f=None, d=None, m=None):
    """Copy trained networks into a new model."""
    for network, source in (("generator", f), ("discriminator", d), ("acoustic_model", m)):
        if source is not None:
            getattr(model, network).set_weights(getattr(source, network).get_weights())
    return model


def train_m(model, batches, steps):
    """Multi-condition training of M: clean and noisy features of the same stretches; CPU minutes."""
    start, m = time.process_time(), model.acoustic_model
    m.compile(keras.optimizers.Adam(2e-3, global_clipnorm=5.0), loss=senone.cross_entropy, jit_compile=False)

    def both(noisy, clean, mask, labels):
        x = model.normalise(keras.ops.concatenate([noisy[..., : senone.N_LFB], clean], 0))
        return x, keras.ops.concatenate([labels, labels], 0)

    m.fit(batches(BATCH // 2, model.seed).map(both).repeat(), steps_per_epoch=steps, verbose=0, shuffle=False)
    return (time.process_time() - start) / 60


class Test:
    """Test digits in noise, and what the recognisers make of them."""

    def __init__(self, kinds, seed, rounds):
        noisy = [data.toy_pairs("test", snr_db=TEST_SNRS_DB, kinds=kinds, seed=seed + i) for i in range(rounds)]
        self.pairs = [pair for found in noisy for pair in found if pair.words]
        self.texts = [pair.text for pair in self.pairs]
        self.features = {side: [senone.lfb(getattr(p, side)).numpy() for p in self.pairs] for side in ("noisy", "clean")}
        self.labels = [senone.alignments(p, len(f)) for p, f in zip(self.pairs, self.features["noisy"])]

    def mapped(self, model):
        return [model.map_features(pair.noisy).numpy() for pair in self.pairs]

    def judged(self, name, judge, features):
        """Row of table A."""
        std = np.concatenate(self.features["clean"]).std(axis=0)
        errors = [np.sum(((a - b) / std) ** 2, axis=1) for a, b in zip(features, self.features["clean"])]
        rates = judge.error_rates(features, self.labels, self.texts)
        return {"": name, **rates, "L_F": float(np.mean(np.concatenate(errors)))}

    def decoded(self, name, model, features, prior):
        """Row of table B."""
        posterior = senone.posteriors(model.acoustic_model, [model.normalise(x).numpy() for x in features])
        return {"": name, **senone.error_rates(posterior, self.labels, self.texts, prior)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600, help="of FM and M; the other stages take a third")
    parser.add_argument("--rounds", type=int, default=3, help="noisy versions of every test utterance")
    parser.add_argument("--adversarial-weight", type=float, help="lambda; default: that of AFM.tiny()")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    third, adversarial = args.steps // 3, {}
    if args.adversarial_weight is not None:
        adversarial["adversarial_weight"] = args.adversarial_weight
    seeds = range(args.seed, args.seed + NOISES)
    pairs = [pair for s in seeds for pair in data.toy_pairs("train", snr_db=TRAIN_SNRS_DB, kinds=SEEN, seed=s)]

    def model(**kwargs):
        keras.utils.set_random_seed(args.seed)
        return AFM.tiny(seed=args.seed, **kwargs)

    start, m = model(adversarial_weight=0.0), model(senone_aware=True)
    speech, digits = (common.in_memory(found.examples(pairs, shuffle=False)) for found in (start, m))
    minutes = train(start, speech, args.steps, RATES["FM"])
    fm, afm = start_from(model(adversarial_weight=0.0), f=start), start_from(model(**adversarial), f=start)
    minutes += sum(train(found, speech, third, RATES["AFM"]) for found in (fm, afm))
    minutes += train_m(start_from(m, f=start), digits, args.steps)  # F brings the statistics
    sa_fm = start_from(model(senone_aware=True, adversarial_weight=0.0), f=fm, m=m)
    sa_afm = start_from(model(senone_aware=True, **adversarial), f=afm, d=afm, m=m)
    minutes += sum(train(found, digits, third, RATES["SA"]) for found in (sa_fm, sa_afm))

    systems = {"FM (D off)": fm, "AFM (D on)": afm, "SA-FM (D off)": sa_fm, "SA-AFM (D on)": sa_afm}
    judge = senone.CleanRecogniser(data.toy_corpus("train"), seed=args.seed)
    parts = [
        f"FM: {args.steps} + {third} steps of {BATCH} stretches of 1 s; AFM, SA-FM and SA-AFM: {third} steps from their "
        f"predecessor; M: {args.steps} steps. lambda = {afm.adversarial_weight:g}, lambda_2 = {afm.senone_weight:g}. Digits of "
        f"test speakers at {', '.join(map(str, TEST_SNRS_DB))} dB."
    ]
    for kinds, heard in ((SEEN, "heard in training"), (UNSEEN, "not heard in training")):
        test = Test(kinds, args.seed, args.rounds)
        noisy, clean = test.features["noisy"], test.features["clean"]
        mapped = {name: test.mapped(network) for name, network in systems.items()}
        found = {"noisy": noisy, **mapped, "clean": clean}
        table_b = [
            test.decoded("noisy, M", m, noisy, judge.prior),
            *(test.decoded(name, systems[name], mapped[name], judge.prior) for name in list(systems)[2:]),
            test.decoded("clean, M", m, clean, judge.prior),
        ]
        parts += [
            f"Noise {heard} ({', '.join(kinds)}), {len(test.pairs)} digit strings. Table A, clean acoustic model:",
            common.markdown([test.judged(name, judge, features) for name, features in found.items()]),
            "Table B, M that has heard noise; with SA-FM and SA-AFM it was trained on together with F:",
            common.markdown(table_b),
        ]
    listened, rows = data.toy_pairs("test", n=40, snr_db=TEST_SNRS_DB, kinds=SEEN, seed=args.seed), []
    for name, enhance in (("noisy", None), ("FM (D off)", fm.enhance), ("AFM (D on)", afm.enhance)):
        means = common.score(listened, enhance)
        rows.append({"": name, "SI-SDR (dB)": means["si_sdr"], "PESQ-WB": means["pesq_wb"], "STOI": means["stoi"]})
    parts += [f"By ear, which the paper never does: gains on the noisy STFT, {len(listened)} pairs.", common.markdown(rows)]
    common.report("afm", "AFM.tiny() on the toy corpus", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
