"""MMSE-GAN learns on the toy corpus, in its three modes: python -m benchmarks.learn.mmsegan

The paper's Table 1 in small: trained at 0, 5, 10 and 15 dB, tested on other speakers at 2.5, 7.5, 12.5 and 17.5 dB
with noise it was trained on and noise it was not. The paper's finding: the squared error alone (DNN) does most of the
work, D adds a little (MMSE-GAN), and D alone (v-GAN) is worse than nothing: its masks fit some speech, not this one.
"""

import argparse

import keras
import tensorflow as tf

from benchmarks.learn import common
from ganse_tf import data, signal
from ganse_tf.models import mmsegan
from ganse_tf.models.mmsegan import MMSEGAN

SEEN, UNSEEN = ("babble", "engine", "pink", "speech_shaped", "wind"), ("clicks", "white")
TRAIN_SNRS_DB, TEST_SNRS_DB = (0, 5, 10, 15), (2.5, 7.5, 12.5, 17.5)  # those of VoiceBank+DEMAND
BATCH = 1000  # frames, the paper's
NAMES = {"dnn": "DNN (D off)", "vgan": "v-GAN (D alone)", "mmse-gan": "MMSE-GAN (D on)"}
LABELS = {"csig": "CSIG", "cbak": "CBAK", "covl": "COVL", "pesq_wb": "PESQ-WB", "stoi": "STOI"}  # the paper's columns
METRICS = {"si_sdr": "SI-SDR (dB)", **LABELS}


def training_frames(model, seed):
    """All frames of the training speakers, as a function batch_size -> dataset."""
    pairs = data.toy_pairs("train", snr_db=TRAIN_SNRS_DB, kinds=SEEN, seed=seed)
    return common.in_memory(data.examples(pairs, model, batch_size=4096, shuffle=False))


def ideal(pair):
    """The best that a mask in (0, 1) on this front end can do: m = min(c / h, 1)."""
    noisy, clean, _ = pair.load()
    bands = mmsegan.bands(noisy)
    log_mask = mmsegan.log_frames(mmsegan.bands(clean)) - mmsegan.log_frames(bands)
    enhanced = signal.gammatone_synthesis(bands, tf.exp(tf.minimum(log_mask, 0.0)))
    return signal.deemphasis(enhanced, mmsegan.EMPHASIS).numpy()


def row(name, pairs, enhance):
    means = common.score(pairs, enhance, tuple(METRICS))
    return {"": name, **{label: means[metric] for metric, label in METRICS.items()}, "failures": means["failures"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=60, help="test pairs per table")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    models, minutes, frames = {}, 0.0, None
    for mode in ("dnn", "vgan", "mmse-gan"):
        keras.utils.set_random_seed(args.seed)
        model = MMSEGAN.tiny(mode=mode, seed=args.seed)
        frames = frames or training_frames(model, args.seed)
        minutes += common.train(model, frames(BATCH, args.seed), args.steps)
        models[mode] = model
    parts = [f"{args.steps} steps of {BATCH} frames, 0 to 15 dB, {', '.join(SEEN)}; 128 hidden units. Test speakers:"]
    for kinds in (SEEN, UNSEEN):
        pairs = data.toy_pairs("test", n=args.pairs, snr_db=TEST_SNRS_DB, kinds=kinds, seed=args.seed)
        rows = [row("noisy", pairs, None)]
        rows += [row(NAMES[mode], pairs, model.enhance) for mode, model in models.items()]
        turn = iter(pairs)
        rows.append(row("ideal mask, from the clean speech", pairs, lambda noisy, rate, turn=turn: ideal(next(turn))))
        heard = "heard in training" if kinds == SEEN else "not heard in training"
        parts += [f"Noise {heard} ({', '.join(kinds)}), {len(pairs)} pairs:", common.markdown(rows)]
    common.report("mmsegan", "MMSEGAN.tiny() on the toy corpus", parts, args.seed, minutes)


if __name__ == "__main__":
    main()
