"""DNN-GAN learns on the toy corpus, with D and without, with z and without: python -m benchmarks.learn.dnn_gan

The paper's Tables 1 and 2 in small: trained at -5 and 0 dB on five kinds of noise, tested at -5, 0 and 5 dB on other
speakers, with the same kinds of noise and with two more. The paper's finding: D adds about a point of STOI and no PESQ.
"""

import argparse

import keras

from benchmarks.learn import common
from ganse_tf import data
from ganse_tf.models.dnn_gan import BETA_1, DNNGAN
from ganse_tf.optimizers import FusedAdam

SEEN, UNSEEN = ("babble", "engine", "pink", "speech_shaped", "wind"), ("clicks", "white")
TRAIN_SNRS_DB, TEST_SNRS_DB = (-5, 0), (-5, 0, 5)  # the paper's
METRICS = {"si_sdr": "SI-SDR (dB)", "stoi": "STOI (%)", "pesq_nb": "PESQ-NB"}
UPDATE = 128  # windows per update of D or G
LEARNING_RATE = 1e-3  # the paper's 2e-4 is for long trainings


def training_windows(model, seed):
    """All windows of the training speakers, as a function batch_size -> dataset."""
    pairs = data.toy_pairs("train", snr_db=TRAIN_SNRS_DB, kinds=SEEN, seed=seed)
    return common.in_memory(data.examples(pairs, model, batch_size=4096, shuffle=False))


def train(model, batches, steps):
    """Train with a quicker rate than the paper's; returns minutes."""
    return common.train(model, batches, steps, *(FusedAdam(LEARNING_RATE, beta_1=BETA_1) for _ in "GD"))


def test_sets(seed):
    return {kinds: data.toy_pairs("test", snr_db=TEST_SNRS_DB, kinds=kinds, seed=seed) for kinds in (SEEN, UNSEEN)}


def rows(models, pairs):
    """Means over `pairs`, one row per model, one column per metric and SNR."""
    found = []
    for name, enhance in models.items():
        row = {"": name}
        for snr_db in TEST_SNRS_DB:
            means = common.score([pair for pair in pairs if pair.snr_db == snr_db], enhance, tuple(METRICS))
            means["stoi"] *= 100
            row |= {f"{label}, {snr_db} dB": means[metric] for metric, label in METRICS.items()}
            row["failures"] = row.get("failures", 0) + means["failures"]
        columns = ["", *(f"{label}, {snr_db} dB" for label in METRICS.values() for snr_db in TEST_SNRS_DB), "failures"]
        found.append({column: row[column] for column in columns})
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    models, minutes, windows = {"noisy": None}, 0.0, None
    for use_z in (False, True):
        for name, adversarial_weight in (("DNN (D off)", 0.0), ("GAN (D on)", 1.0)):
            keras.utils.set_random_seed(args.seed)
            model = DNNGAN.tiny(use_z=use_z, adversarial_weight=adversarial_weight, seed=args.seed)
            windows = windows or training_windows(model, args.seed)
            updates = 1 + model.d_steps * bool(adversarial_weight)
            minutes += train(model, windows(updates * UPDATE, args.seed), args.steps)
            models[f"{name}, z {'on' if use_z else 'off'}"] = model.enhance
    parts = [
        f"{args.steps} updates of G on {UPDATE} windows of five frames, Adam({LEARNING_RATE:g}), -5 and 0 dB, "
        f"{', '.join(SEEN)}; 256 hidden units with and without z. Means over test speakers:"
    ]
    for kinds, pairs in test_sets(args.seed).items():
        heard = "heard in training" if kinds == SEEN else "not heard in training"
        parts += [f"Noise {heard} ({', '.join(kinds)}), {len(pairs)} pairs:", common.markdown(rows(models, pairs))]
    common.report("dnn_gan", "DNNGAN.tiny() on the toy corpus", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
