"""One training in one folder. Stop it, kill it, give the same command again: it goes on from the last whole epoch.

    runs/segan/
        run.json       what is trained on what, and how many epochs are done
        backup/        networks and optimisers after the last whole epoch, while training runs
        history.csv    one row per epoch
        curves.png     the same as a picture
        model.keras    networks and optimisers when training has ended

`python -m ganse_tf train` is the front door; a notebook that wants to show the steps calls `fit` itself.
"""

import csv
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import keras
import numpy as np

from ganse_tf import callbacks, catalogue, data, viz
from ganse_tf.version import __version__

BATCH_SIZE = 16  # examples; 1 for models that learn from whole utterances of different lengths
TOY = "toy"  # as data: the corpus in the package
VALID_SPLITS = ("valid", "val", "dev")


@dataclass(frozen=True)
class Plan:
    """What makes two trainings the same one; only `epochs` and `minutes` may change when a run goes on.

    Attributes:
        model: class of the paper, "SEGAN".
        preset: "tiny" or "paper".
        data: "toy", a folder with noisy/ and clean/ (or speech/ and noise/, mixed on the fly), or a manifest.csv.
        batch_size: examples per step; None takes 16, or 1 where examples differ in length.
        crop_seconds: random stretch of every pair; None takes what the paper takes.
        limit: pairs per epoch; None means all.
        adversarial_weight: 1 as in the paper, 0 trains G alone.
        seed: of initial weights, order and draws.
    """

    model: str
    preset: str = "tiny"
    data: str = TOY
    batch_size: int | None = None
    crop_seconds: float | None = None
    limit: int | None = None
    adversarial_weight: float = 1.0
    seed: int = 0


def train(plan, out, epochs, minutes=None, validate=4, show=None, say=print):
    """Train by `plan` in the folder `out`, or go on with the training that is there.

    Args:
        plan: a Plan.
        out: folder of the run; made if missing.
        epochs: how many in all, over all calls.
        minutes: stop after this time, at the end of the running step; call again to go on.
        validate: validation pairs scored after every epoch (0: none). The test split is never touched.
        show: function that returns a context manager and Keras callback in one (`terminal.LiveCurves`), or None.
        say: where sentences go.

    Returns:
        int, epochs done in all.

    Raises:
        ValueError: `out` holds another training, or the data cannot be used.
    """
    out = Path(out)
    done = _epochs_done(plan, out)
    if done >= epochs:
        say(f"'{out}' has its {done} epochs: nothing to do. Give a larger --epochs to go on, or another --out.")
        return done
    source, valid, about = _data(plan, validate)
    model = _model(plan, out, done)
    crop, batch_size = plan.crop_seconds, plan.batch_size
    whole = crop is None and not model.padded and _examples_differ_in_length(model)
    batch_size = batch_size or (1 if whole else BATCH_SIZE)
    if whole and batch_size > 1:
        raise ValueError(
            f"{plan.model} learns from whole utterances, which differ in length and do not fit into a batch of {batch_size}. "
            "Give --crop 2 (seconds), or --batch-size 1 as in the paper."
        )
    dataset = data.examples(source, model, batch_size=batch_size, seed=plan.seed, crop_seconds=crop)
    backup = out / "backup"
    if done or backup.exists():
        say(f"Going on with '{out}'{f' after {done} epochs' if done else ' from its last whole epoch'}.")
    say(f"{plan.model} ({plan.preset}), {about}, batches of {batch_size}.")
    out.mkdir(parents=True, exist_ok=True)
    _write_state(plan, out, done)

    log = EpochLog(out / "history.csv")
    watch = [callbacks.PerceptualValidation(valid)] if valid and model.outputs == "speech" else []
    watch += [log, Keep(plan, out, log)]
    if minutes is not None:
        watch.append(callbacks.TimeBudget(minutes))
    fit = dict(epochs=epochs, initial_epoch=done, verbose=0, backup_dir=backup)
    if show is None:
        model.fit(dataset, callbacks=watch, **fit)
    else:
        with show() as display:
            model.fit(dataset, callbacks=[*watch, display], **fit)
    scores = catalogue.D_SCORES.get(plan.model, "logits")
    viz.save(viz.curves(out / "history.csv", scores=scores, title=f"{plan.model} ({plan.preset})"), out / "curves.png")
    return _epochs_done(plan, out)


def _epochs_done(plan, out):
    """Epochs of a training in `out` that has ended; 0 for a new or an interrupted one. Refuses another plan's folder."""
    path = out / "run.json"
    if not path.exists():
        if out.is_dir() and any(out.iterdir()):
            raise ValueError(f"'{out}' is not empty and holds no training (no run.json). Choose another --out.")
        return 0
    state = json.loads(path.read_text(encoding="utf-8"))
    if state["plan"] != asdict(plan):
        now = asdict(plan)
        changed = [f"{f.name} was {state['plan'].get(f.name)!r}, is {now[f.name]!r}" for f in fields(plan)
                   if state["plan"].get(f.name) != now[f.name]]  # fmt: skip
        raise ValueError(
            f"'{out}' holds another training: {'; '.join(changed)}. Choose another --out, or give the options of that "
            "training to go on with it."
        )
    return state["epochs_done"]


def _write_state(plan, out, done):
    state = {"plan": asdict(plan), "epochs_done": done, "ganse_tf": __version__}
    part = out / "run.json.part"
    part.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    os.replace(part, out / "run.json")


def _model(plan, out, done):
    cls = catalogue.model_class(plan.model)
    if done:
        return keras.saving.load_model(out / "model.keras")
    keras.utils.set_random_seed(plan.seed)
    build = cls.tiny if plan.preset == "tiny" else cls
    model = build(adversarial_weight=plan.adversarial_weight, seed=plan.seed)
    model.compile()
    return model


def _examples_differ_in_length(model):
    import tensorflow as tf

    waves = [tf.TensorSpec([None], tf.float32)] * 2
    outputs = tf.function(model.preprocess, input_signature=waves).get_concrete_function().structured_outputs
    return any(None in tensor.shape[1:] for tensor in tf.nest.flatten(outputs))


def _data(plan, validate):
    """(training source, validation pairs, sentence about them)."""
    if plan.data == TOY:
        found = data.toy_pairs("train", n=plan.limit)
        return found, data.toy_pairs("valid", n=validate) if validate else [], f"{len(found)} pairs of the toy corpus"
    path = Path(plan.data)
    if (path / "speech").is_dir() and (path / "noise").is_dir():
        mixer = data.Mixer(path / "speech", path / "noise", length=plan.limit, seed=plan.seed)
        return mixer, [], f"{len(mixer)} pairs per epoch, mixed from '{path}'"
    found = data.pairs(path / "manifest.csv" if (path / "manifest.csv").is_file() else path)
    valid = [pair for pair in found if pair.split in VALID_SPLITS]
    if any(pair.split for pair in found):
        train = [pair for pair in found if pair.split == "train"]
        if not train:
            splits = ", ".join(sorted({pair.split for pair in found}))
            raise ValueError(f"'{plan.data}' has no pairs of split train (only: {splits}). Test data is not for training.")
        found = train
    found = _spread(found, plan.limit)
    return found, _spread(valid, validate) if validate else [], f"{len(found)} pairs of '{plan.data}'"


def _spread(items, n):
    """At most `n` items, evenly spaced, so that the first speakers are not all of them."""
    if n is None or n >= len(items):
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, n).round().astype(int)]


class EpochLog(keras.callbacks.Callback):
    """Writes history.csv after every epoch; an epoch that is run again after a crash replaces its row."""

    def __init__(self, path):
        super().__init__()
        self.path, self.rows = Path(path), {}
        if self.path.exists():
            with open(self.path, newline="", encoding="utf-8") as file:
                self.rows = {int(row["epoch"]): row for row in csv.DictReader(file)}

    def on_epoch_end(self, epoch, logs=None):
        self.rows = {e: row for e, row in self.rows.items() if e < epoch}
        self.rows[epoch] = {"epoch": epoch, **{name: float(value) for name, value in (logs or {}).items()}}
        columns = list(dict.fromkeys(name for row in self.rows.values() for name in row))
        part = self.path.with_suffix(".part")
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="NA")
            writer.writeheader()
            writer.writerows(self.rows.values())
        os.replace(part, self.path)


class Keep(keras.callbacks.Callback):
    """Saves the model when training ends, before Keras removes the backup: a crash in between loses nothing."""

    def __init__(self, plan, out, log):
        super().__init__()
        self.plan, self.out, self.log = plan, out, log

    def on_train_end(self, logs=None):
        part = self.out / "part.keras"
        self.model.save(part)
        os.replace(part, self.out / "model.keras")
        _write_state(self.plan, self.out, max(self.log.rows, default=-1) + 1)


def load(path):
    """A trained model from a run's folder or a .keras file.

    Raises:
        ValueError: nothing there, or not a model of this package.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / "model.keras").exists():
            unfinished = " Its training has not ended: give the train command again." if (path / "run.json").exists() else ""
            raise ValueError(f"'{path}' holds no model.keras; expected the folder that train --out wrote.{unfinished}")
        path = path / "model.keras"
    for row in catalogue.papers():  # Keras finds a class only when its file has been imported
        catalogue.model_class(row["class"])
    try:
        return keras.saving.load_model(path)
    except (OSError, TypeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"'{path}' cannot be loaded as a model of ganse_tf ({reason}).") from error
