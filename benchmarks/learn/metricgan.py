"""MetricGAN learns on the toy corpus: python -m benchmarks.learn.metricgan

G is first trained by plain regression (D off); MetricGAN, with the metric as D's target, goes on from there and from nothing,
and the regression goes on as well, so that all have had the same number of G's steps. The toy corpus at 0, 5 and 10 dB;
test speakers, same kinds of noise. Targets: STOI, the paper's second metric, and PESQ-WB, its first. "Patient" is what the
released weights do: D learns alone for longer and from more variants of G's masks, then G takes small steps.
"""

import argparse
import time

import keras

from benchmarks.learn import common
from ganse_tf import data, optimizers
from ganse_tf.models.metricgan import MetricGAN

KINDS, SNRS_DB = ("babble", "engine", "pink", "wind"), (0, 5, 10)
BATCH, UTTERANCES, SECONDS = 2, 60, 2.0  # an epoch is 60 utterances
PATIENT = dict(d_first_epochs=10, explore=2, learning_rate=1e-4, d_rate=1e-3)
LABELS = {"pesq_wb": "PESQ-WB", "stoi": "STOI", "si_sdr": "SI-SDR (dB)"}


def mixer(split, length, seed):
    """The mixtures of this table and of benchmarks/learn/surrogate.py, `length` in an epoch."""
    return data.Mixer(data.toy_corpus(split), KINDS, seconds=SECONDS, level_db=(-28.0, -20.0), length=length,
                      snr_choices=SNRS_DB, seed=seed)  # fmt: skip


def trained(metric, epochs, seed, start=None, d_rate=None, **kwargs):
    """A MetricGAN.tiny() after so many epochs from the weights `start` of another G, and the CPU minutes they took."""
    keras.utils.set_random_seed(seed)
    model = MetricGAN.tiny(metric=metric, seed=seed, **kwargs)
    model.compile(d_optimizer=d_rate and optimizers.FusedAdam(d_rate, beta_1=0.5))
    if start is not None:
        model.generator.set_weights(start.generator.get_weights())
    pairs = mixer("train", UTTERANCES, seed)
    begin = time.process_time()
    model.fit(data.examples(pairs, model, batch_size=BATCH, seed=seed), epochs=epochs, utterances=UTTERANCES, verbose=2)
    return model, (time.process_time() - begin) / 60


def row(name, pairs, enhance):
    means = common.score(pairs, enhance, tuple(LABELS))
    return {"": name, **{label: means[metric] for metric, label in LABELS.items()}, "failures": means["failures"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regression", type=int, default=24, help="epochs of G by regression")
    parser.add_argument("--epochs", type=int, default=8, help="further epochs of G")
    parser.add_argument("--pairs", type=int, default=24, help="test pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = data.toy_pairs("test", n=args.pairs, snr_db=SNRS_DB, kinds=KINDS, seed=args.seed)
    off, minutes = trained("stoi", args.regression, args.seed, adversarial_weight=0.0)
    rows = [row("noisy", pairs, None), row(f"regression, {args.regression} epochs (D off)", pairs, off.enhance)]
    for name, metric, start, options in (
        (f"regression, {args.epochs} more", "stoi", off, dict(adversarial_weight=0.0)),
        (f"D on, target STOI, {args.epochs} more", "stoi", off, {}),
        (f"D on, target PESQ-WB, {args.epochs} more", "pesq_wb", off, {}),
        (f"D on, target STOI, {args.epochs} more, patient", "stoi", off, PATIENT),
        (f"D on, target PESQ-WB, {args.epochs} more, patient", "pesq_wb", off, PATIENT),
        (f"D on, target STOI, {args.epochs} from nothing", "stoi", None, {}),
    ):  # fmt: skip
        alone = 0 if "adversarial_weight" in options else options.get("d_first_epochs", MetricGAN.tiny().d_first_epochs)
        model, used = trained(metric, alone + args.epochs, args.seed, start, **options)
        minutes += used
        rows.append(row(name, pairs, model.enhance))
    text = (
        f"Epochs of {UTTERANCES} utterances of {SECONDS:g} s, batch {BATCH}; {', '.join(KINDS)} at {SNRS_DB} dB. With D on, D "
        f"first learns alone for {MetricGAN.tiny().d_first_epochs} epochs more, the patient one for "
        f"{PATIENT['d_first_epochs']}. Test speakers, {len(pairs)} pairs:"
    )
    common.report("metricgan", "MetricGAN.tiny() on the toy corpus", [text, common.markdown(rows, 3)], args.seed, minutes)


if __name__ == "__main__":
    main()
