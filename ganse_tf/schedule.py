"""Training by an outer schedule instead of one step per batch (MetricGAN): replay buffer and epoch loop in the open."""

import shutil
from pathlib import Path

import keras
import numpy as np

from ganse_tf.callbacks import NaNGuard

INT16 = 32767.0


class ReplayBuffer:
    """Old outputs of G with the scores they got when they were new. They are never scored again.

    Waveforms are kept as int16 (2 bytes a sample, 64 kB for two seconds at 16 kHz).

    Args:
        size: most entries kept; the oldest go first.
    """

    def __init__(self, size):
        self.size = int(size)
        self.entries = []
        self.newest = []  # what the running epoch added: saved to disk at its end

    def __len__(self):
        return len(self.entries)

    def extend(self, entries):
        """Add (candidate, clean, score): waveforms (B, n) in [-1, 1] and scores (B,)."""
        self.newest = [(_to_int16(x), _to_int16(y), np.asarray(q, np.float32)) for x, y, q in entries]
        self.entries = (self.entries + self.newest)[-self.size :]

    def sample(self, portion, rng):
        """A random `portion` (0 to 1) of the buffer, without replacement, in the form `extend` took."""
        chosen = rng.permutation(len(self.entries))[: int(portion * len(self.entries))]
        return [(x / np.float32(INT16), y / np.float32(INT16), q) for x, y, q in (self.entries[i] for i in chosen)]

    def save_newest(self, path):
        """Write the newest epoch's entries, whole or not at all (written beside, then renamed)."""
        arrays = {f"{name}{i}": a for i, entry in enumerate(self.newest) for name, a in zip("xyq", entry)}
        part = Path(path).with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(path)

    def load(self, paths):
        """Read back the entries of the given epoch files, oldest first."""
        self.entries = []
        for path in paths:
            with np.load(path) as file:
                epoch = [tuple(file[f"{name}{i}"] for name in "xyq") for i in range(len(file.files) // 3)]
            self.entries = (self.entries + epoch)[-self.size :]


def lessons(entries, size, rng):
    """All (candidate, clean, score) of `entries` in random order, at most `size` utterances at once; NaN scores left out."""
    pieces = [(i, j) for i, (_, _, score) in enumerate(entries) for j in range(0, len(score), size)]
    for i, j in (pieces[k] for k in rng.permutation(len(pieces))):
        candidate, clean, score = (part[j : j + size] for part in entries[i])
        scored = np.isfinite(score)
        if scored.any():
            yield candidate[scored], clean[scored], score[scored]


def variations(n, rng):
    """(n, 4, 8) exponents g over time and frequency, for masks m^(2^g), bolder or more timid: -1 to 1 for the whole mask and
    normal ones, of a deviation up to 1, here and there."""
    whole, strength = rng.uniform(-1, 1, (n, 1, 1)), rng.uniform(0, 1, (n, 1, 1))
    return (whole + strength * rng.standard_normal((n, 4, 8))).astype(np.float32)


def _to_int16(wav):
    return np.clip(np.rint(np.asarray(wav) * INT16), -INT16, INT16).astype(np.int16)


def run_epochs(model, dataset, epochs, utterances, callbacks, backup_dir, initial_epoch, verbose, validation_data):
    """Call ``model.fit_epoch(epoch, batches, report)`` for every epoch, with Keras callbacks and backups (replay included).

    Returns:
        keras.callbacks.History.
    """
    if not model.compiled:
        raise ValueError(f"{type(model).__name__} is not compiled: call model.compile() once before model.fit(...).")
    callbacks, folder = [NaNGuard(), *(callbacks or [])], None
    if backup_dir is not None:
        callbacks.append(keras.callbacks.BackupAndRestore(str(backup_dir), save_freq="epoch", double_checkpoint=True))
        folder = Path(backup_dir).with_name(Path(backup_dir).name + "_replay")
        folder.mkdir(parents=True, exist_ok=True)
    model.stop_training, model._initial_epoch = False, initial_epoch
    callbacks = keras.callbacks.CallbackList(
        callbacks, add_history=True, add_progbar=bool(verbose), verbose=1 if verbose == "auto" else verbose, epochs=epochs,
        steps=None, model=model,
    )  # fmt: skip
    callbacks.on_train_begin()  # BackupAndRestore loads the weights and moves _initial_epoch here
    if folder is not None:
        files = [folder / f"epoch_{e:05d}.npz" for e in range(model._initial_epoch)]
        model.replay.load(f for f in files if f.exists())

    logs = {}
    for epoch in range(model._initial_epoch, epochs):
        model.reset_metrics()
        callbacks.on_epoch_begin(epoch)
        count = 0

        def report(**values):
            nonlocal logs, count
            callbacks.on_train_batch_begin(count)
            model.log(**values)
            logs = {m.name: float(m.result()) for m in model.metrics if float(m.count) > 0}
            callbacks.on_train_batch_end(count, logs)
            count += 1

        batches = [(np.asarray(noisy), np.asarray(clean)) for noisy, clean in dataset.take(utterances)]
        if not batches:
            raise ValueError("The dataset is empty: every utterance was shorter than the model's shortest example.")
        model.fit_epoch(epoch, batches, report)
        if validation_data is not None:
            found = model.evaluate(validation_data, verbose=0, return_dict=True)
            logs = {**logs, **{f"val_{name}": value for name, value in found.items()}}
        if folder is not None:
            model.replay.save_newest(folder / f"epoch_{epoch:05d}.npz")
        callbacks.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    callbacks.on_train_end(logs)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return model.history
