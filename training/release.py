"""Train one released preset on real speech: `python -m training.release NAME --data FOLDER [--minutes N]`.

Two stages, both declared in the card: G alone by regression (``adversarial_weight=0``), then the paper's adversarial
training from there. The checkpoint is the best validation PESQ-WB (other speakers, other noises). Interrupted? Run the
same command again: each stage resumes from its last epoch. Logs go to training/logs/NAME_*.csv.
"""

import argparse
import json
import platform
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import ganse_tf
from ganse_tf import callbacks, data, presets
from training import corpus

LOGS = Path(__file__).parent / "logs"
SECONDS = 2.0  # of speech per training mixture


# What differs from MetricGAN+: strides make D 12 times cheaper, D starts alone, and a regression term stays in G's loss.
METRICGAN = dict(d_strides=(2, 2, 2, 1), d_batch=2, d_first_epochs=6, explore=True, l2_weight=0.5, history_size=60)


def metricgan(**kwargs):
    return ganse_tf.MetricGAN.plus(**{**METRICGAN, **kwargs})


def segan_tiny(**kwargs):
    return ganse_tf.SEGAN.tiny(**kwargs)


# name -> model, batch size, pairs per epoch, learning rate and CPU minutes of stage 1 and 2
RECIPES = {
    "metricgan": dict(build=metricgan, batch=(16, 8), length=(480, 96), rate=(2e-3, 2e-4), minutes=(25, 40)),
    "segan_tiny": dict(build=segan_tiny, batch=(16, 16), length=(480, 480), rate=(1e-3, 2e-4), minutes=(25, 15)),
}


class KeepBest(keras.callbacks.Callback):
    """Remembers on disk the generator with the best validation score."""

    def __init__(self, path, monitor, first_epoch=0):
        super().__init__()
        self.first_epoch = first_epoch  # before it G has not learnt anything in this stage
        self.path, self.monitor = Path(path), monitor
        self.note = self.path.with_suffix(".json")
        self.best = json.loads(self.note.read_text()) if self.note.exists() else {"score": -np.inf}

    def on_epoch_end(self, epoch, logs=None):
        if epoch >= self.first_epoch and (logs or {}).get(self.monitor, -np.inf) > self.best["score"]:
            self.best = {"score": float(logs[self.monitor]), "epoch": epoch + 1}
            np.savez(self.path, *self.model.generator.get_weights())
            self.note.write_text(json.dumps(self.best))

    def restore(self, model):
        with np.load(self.path) as file:
            model.generator.set_weights([file[f"arr_{i}"] for i in range(len(file.files))])


class Clock(keras.callbacks.Callback):
    """CPU minutes of training so far, over all restarts; stops after `budget` of them at the end of an epoch."""

    def __init__(self, path, budget):
        super().__init__()
        self.path, self.budget = Path(path), budget
        self.before = float(self.path.read_text()) if self.path.exists() else 0.0
        self.start = time.process_time()

    @property
    def minutes(self):
        return self.before + (time.process_time() - self.start) / 60

    def on_epoch_end(self, epoch, logs=None):
        self.path.write_text(f"{self.minutes:.2f}")
        if self.minutes >= self.budget:
            self.model.stop_training = True


def stage(name, number, model, folder, minutes, work, seed):
    """One stage of training; returns (best note, minutes)."""
    recipe = RECIPES[name]
    rate = recipe["rate"][number - 1]
    g_optimizer, d_optimizer = model.default_optimizers()
    g_optimizer.learning_rate, d_optimizer.learning_rate = rate, max(rate, 1e-3)
    model.compile(g_optimizer, d_optimizer)
    mixer = corpus.training_mixer(folder, SECONDS, recipe["length"][number - 1], seed + number)
    dataset = data.examples(mixer, model, batch_size=recipe["batch"][number - 1], seed=seed)
    best = KeepBest(work / f"{name}_stage{number}.npz", "val_pesq_wb", getattr(model, "d_first_epochs", 0))
    clock = Clock(work / f"{name}_stage{number}.minutes", minutes)
    listen = callbacks.PerceptualValidation(corpus.validation_pairs(folder))
    if clock.before < minutes:
        LOGS.mkdir(exist_ok=True)
        table = keras.callbacks.CSVLogger(LOGS / f"{name}_stage{number}.csv", append=clock.before > 0)
        watch = [listen, best, table, clock]
        model.fit(dataset, epochs=10_000, callbacks=watch, verbose=2, backup_dir=work / f"{name}_backup{number}")
    best.restore(model)
    return best.best, clock.minutes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("--data", required=True, help="folder with speech/, noise/ and manifests/dev.csv")
    parser.add_argument("--minutes", type=float, nargs=2, help="CPU minutes of stage 1 (regression) and 2 (adversarial)")
    parser.add_argument("--work", default="runs/release", help="checkpoints and backups")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage1-only", action="store_true", help="release the regression-trained generator as NAME_d_off")
    args = parser.parse_args()
    work = Path(args.work)
    work.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[args.name]
    minutes = args.minutes or recipe["minutes"]

    keras.utils.set_random_seed(args.seed)
    model = recipe["build"](adversarial_weight=0.0, seed=args.seed)
    notes = [stage(args.name, 1, model, args.data, minutes[0], work, args.seed)]
    if not args.stage1_only:
        start = model.generator.get_weights()
        keras.utils.set_random_seed(args.seed)
        model = recipe["build"](seed=args.seed)
        model.generator.set_weights(start)
        notes.append(stage(args.name, 2, model, args.data, minutes[1], work, args.seed))
    command = f"python -m training.release {args.name} --data DATA --seed {args.seed}"
    card = {
        "paper": model.paper, "data": corpus.LICENCES, "seed": args.seed, "validation": [n[0] for n in notes],
        "cpu_minutes": [round(n[1], 1) for n in notes], "hardware": f"2 CPU cores, {platform.machine()}",
        "versions": {"tensorflow": tf.__version__, "keras": keras.__version__, "ganse_tf": ganse_tf.__version__},
        "command": command + (" --stage1-only" if args.stage1_only else ""),
        "limits": "Trained on read English and 20 kinds of noise at 16 kHz; other languages, reverberation, music: untested.",
    }  # fmt: skip
    print(presets.save(args.name + ("_d_off" if args.stage1_only else ""), model, card))


if __name__ == "__main__":
    main()
