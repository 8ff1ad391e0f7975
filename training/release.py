"""Train a released preset on real speech: `python -m training.release NAME --data FOLDER`.

Two stages, both declared in the card: G alone by regression (``adversarial_weight=0``, released as NAME_d_off), then the
paper's adversarial training from there (NAME). The learning rate falls along a half cosine in both. The checkpoint is the
epoch with the best validation PESQ-WB, less a penalty for falling below the noisy input in STOI or SI-SDR; validation has
other speakers and other noises. Systems for a recogniser or a synthesiser (`task`) keep their last epoch. Interrupted? Run
the same command again: each stage resumes from its last epoch. Logs go to training/logs/NAME_stage*.csv.
"""

import argparse
import json
import math
import platform
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import ganse_tf
from benchmarks.learn import common
from ganse_tf import callbacks, data, optimizers, presets
from training import corpus

LOGS = Path(__file__).parent / "logs"
STOI_PENALTY, SI_SDR_PENALTY = 10.0, 0.2  # PESQ-WB points per unit of STOI, and per dB, below the noisy input
D_RATE = 2e-4  # Adam's step for D in stage 2


def adam(rate, beta_1=0.5, **kwargs):
    return optimizers.FusedAdam(rate, beta_1=beta_1, **kwargs)


# build: the model; batch: examples; pairs: mixtures per epoch; seconds: of each; rate: Adam's first step, epochs: both of
# stage 1 and 2; beta: Adam's beta_1 in stage 1 (0.5 in stage 2); level: dBFS of the clean speech; vary: more noises, "colour":
# filtered, too; crop: seconds of every recording, elsewhere in each epoch; task: of a system that is not for the ear; memory:
# make the examples once (they cost more than the steps).
# MetricGAN differs from MetricGAN+: D hears loudness and starts alone, epochs are short, a regression term stays in G's loss.
RECIPES = {
    "metricgan": dict(
        build=lambda **k: ganse_tf.MetricGAN.plus(
            d_input="loudness", d_strides=(2, 2, 1, 1), d_batch=4, d_first_epochs=15, explore=2, l2_weight=0.5,
            history_portion=0.5, history_size=600, **k
        ), batch=(8, 4), pairs=(320, 48), rate=(2e-3, 1e-4), vary="colour", epochs=(80, 45),
    ),
    "dnn_gan": dict(
        build=lambda **k: ganse_tf.DNNGAN.tiny(units=512, target="irm", **k),
        batch=(256, 384), pairs=(1200, 1200), rate=(1e-3, 2e-4), epochs=(10, 3), memory=True,
    ),
    "mmsegan": dict(
        build=lambda **k: ganse_tf.MMSEGAN.tiny(units=256, **k),
        batch=(512, 512), pairs=(1500, 1500), rate=(1e-3, 2e-4), epochs=(12, 4), memory=True,
    ),
    "unetgan": dict(
        build=lambda **k: ganse_tf.UNetGAN.tiny(**{"level_db": -26.0, "adversarial_weight": 0.01, **k}), level=(-30.0, -22.0),
        batch=(8, 8), pairs=(500, 250), seconds=1.024, rate=(3e-3, 3e-4), beta=0.9, epochs=(24, 8),
    ),
    "sforkgan": dict(
        build=lambda **k: ganse_tf.SForkGAN.tiny(
            widths=(8, 8, 8, 16, 16, 16, 32, 32, 48, 48, 96), output="subtraction", **k
        ), batch=(16, 16), pairs=(160, 160), rate=(1e-3, 2e-4), beta=0.9, vary=True, epochs=(12, 3),
    ),
    "cgan": dict(
        build=lambda **k: ganse_tf.CGAN.tiny(filters=8, d_filters=12, **k),
        batch=(1, 1), pairs=(300, 200), seconds=4.112, rate=(1e-3, 2e-4), vary=True, epochs=(12, 3),
    ),
    "cpgan": dict(
        build=lambda **k: ganse_tf.CPGAN.tiny(**{"emphasis": 0.0, "level_db": -26.0, "adversarial_weight": 0.1, **k}),
        level=(-30.0, -22.0), batch=(8, 8), pairs=(320, 240), seconds=0.512, rate=(1e-3, 2e-4), beta=0.9, vary=True,
        epochs=(10, 3),
    ),
    "fsegan": dict(
        build=ganse_tf.FSEGAN.tiny, batch=(8, 8), pairs=(400, 240), seconds=2.59, rate=(2e-3, 2e-4), beta=0.9,
        epochs=(14, 5), task="recogniser",
    ),
    "afm": dict(
        build=lambda **k: ganse_tf.AFM.tiny(units=128, projection=64, **k), batch=(16, 16), pairs=(640, 320), rate=(2e-3, 5e-4),
        epochs=(16, 6), task="recogniser",
    ),
    "postfilter": dict(
        build=ganse_tf.GANPostfilter.tiny, batch=(4, 4), pairs=(142, 142), crop=1.0, rate=(1e-3, 2e-4),
        epochs=(6, 3), task="synthesiser",
    ),
    "segan": dict(
        build=lambda **k: ganse_tf.SEGAN.tiny(
            widths=(8, 16, 16, 32, 32, 64, 64, 64), emphasis=0.0, level_db=-26.0, **k
        ),
        level=(-30.0, -22.0), batch=(6, 8), pairs=(400, 200), rate=(1e-3, 2e-4), beta=0.9, vary=True, epochs=(10, 4),
    ),
}  # fmt: skip


class KeepBest(keras.callbacks.Callback):
    """Remembers on disk the generator of the best validated epoch; of the last one if there is no `noisy` to compare with."""

    def __init__(self, path, noisy, first_epoch=0):
        super().__init__()
        self.path, self.noisy, self.first_epoch = Path(path), noisy, first_epoch  # before it G has not moved in this stage
        self.note = self.path.with_suffix(".json")
        self.best = json.loads(self.note.read_text()) if self.note.exists() else {"score": -np.inf}

    def on_epoch_end(self, epoch, logs=None):
        if epoch < self.first_epoch:
            return
        if self.noisy is None:
            found, score = {}, float(epoch)
        else:
            found = {name: float(logs[f"val_{name}"]) for name in ("pesq_wb", "stoi", "si_sdr")}
            below = {name: max(0.0, self.noisy[name] - found[name]) for name in found}
            score = found["pesq_wb"] - STOI_PENALTY * below["stoi"] - SI_SDR_PENALTY * below["si_sdr"]
        if score > self.best["score"]:
            self.best = {"score": score, "epoch": epoch + 1, **found}
            np.savez(self.path, **presets.arrays(self.model))
            self.note.write_text(json.dumps(self.best))

    def restore(self, model):
        with np.load(self.path) as file:
            presets.load_arrays(model, file)


class Clock(keras.callbacks.Callback):
    """CPU minutes of training so far, over all restarts."""

    def __init__(self, path):
        super().__init__()
        self.path = Path(path)
        self.before = float(self.path.read_text()) if self.path.exists() else 0.0
        self.start = time.process_time()

    def on_epoch_end(self, epoch, logs=None):
        self.path.write_text(f"{self.minutes:.2f}")

    @property
    def minutes(self):
        return self.before + (time.process_time() - self.start) / 60


class HalfCosine(keras.callbacks.Callback):
    """Both learning rates fall from their first value towards 0 along half a cosine."""

    def __init__(self, rates, epochs):
        super().__init__()
        self.rates, self.epochs = rates, epochs

    def on_epoch_begin(self, epoch, logs=None):
        share = 0.5 * (1 + math.cos(math.pi * epoch / self.epochs))
        for optimizer, rate in zip((self.model.g_optimizer, self.model.d_optimizer), self.rates):
            optimizer.learning_rate = rate * share


def stage(name, number, model, folder, work, seed):
    """One stage of training; returns its card entry. The model ends with the weights of the best epoch."""
    recipe = RECIPES[name]
    batch, length, rate, epochs = (recipe[key][number - 1] for key in ("batch", "pairs", "rate", "epochs"))
    rates = rate, 1e-3 if name == "metricgan" else min(rate, D_RATE)
    beta_1 = recipe.get("beta", 0.5) if number == 1 else 0.5
    model.compile(adam(rates[0], beta_1, global_clipnorm=5.0), adam(rates[1]))
    task = recipe.get("task")
    if task == "synthesiser":
        pairs = corpus.oversmoothed_pairs(folder)
    else:
        level = recipe.get("level", corpus.LEVELS_DB)
        seconds, vary = recipe.get("seconds", 2.0), recipe.get("vary", False)
        pairs = corpus.training_mixer(folder, seconds, length, seed + number, level_db=level, vary=vary)
    if recipe.get("memory"):
        dataset = common.in_memory(data.examples(pairs, model, batch_size=4096, shuffle=False))(batch, seed)
    else:
        dataset = data.examples(pairs, model, batch_size=batch, seed=seed, crop_seconds=recipe.get("crop"))
    valid = corpus.validation_pairs(folder)
    listen = [] if task else [callbacks.PerceptualValidation(valid)]
    noisy = None if task else common.score(valid)
    best = KeepBest(work / f"{name}_stage{number}.npz", noisy, getattr(model, "d_first_epochs", 0))
    clock = Clock(work / f"{name}_stage{number}.minutes")
    done = work / f"{name}_stage{number}.done"
    if not done.exists():
        LOGS.mkdir(exist_ok=True)
        table = keras.callbacks.CSVLogger(LOGS / f"{name}_stage{number}.csv", append=clock.before > 0)
        watch = [HalfCosine(rates, epochs), *listen, best, table, clock]
        model.fit(dataset, epochs=epochs, callbacks=watch, verbose=2, backup_dir=work / f"{name}_backup{number}")
        done.touch()
    best.restore(model)
    return {**{k: round(v, 4) for k, v in best.best.items()}, "epochs": epochs, "cpu_minutes": round(clock.minutes, 1)}


def release(name, model, stages, seed):
    """Write the preset and its card."""
    card = {
        "paper": model.paper, "data": corpus.LICENCES, "seed": seed, "stages": stages,
        "hardware": f"2 CPU cores shared with other jobs, {platform.machine()}",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "ganse_tf": ganse_tf.__version__},
        "command": f"python -m training.release {name.removesuffix('_d_off')} --data DATA --seed {seed}",
        "limits": "Trained on read English and 20 kinds of noise at 16 kHz; other languages, reverberation, music: untested.",
    }  # fmt: skip
    print(presets.save(name, model, card), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", required=True, help="folder with speech/, noise/ and manifests/dev.csv")
    parser.add_argument("--work", default="runs/release", help="checkpoints and backups")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)

    keras.utils.set_random_seed(args.seed)
    regression = RECIPES[args.name]["build"](adversarial_weight=0.0, seed=args.seed)
    stages = [stage(args.name, 1, regression, args.data, work, args.seed)]
    release(f"{args.name}_d_off", regression, stages, args.seed)
    keras.utils.set_random_seed(args.seed)
    model = RECIPES[args.name]["build"](seed=args.seed)
    presets.load_arrays(model, presets.arrays(regression))
    stages.append(stage(args.name, 2, model, args.data, work, args.seed))
    release(args.name, model, stages, args.seed)


if __name__ == "__main__":
    main()
