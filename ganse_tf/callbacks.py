"""Keras callbacks for GAN training: stop on NaN with advice, a time budget, perceptual validation, sound on TensorBoard."""

import time

import keras
import numpy as np


class TrainingDiverged(RuntimeError):
    """Training produced NaN or infinity; the message says what to try."""


class NaNGuard(keras.callbacks.Callback):
    """Stops training at the first NaN, before it reaches a backup. ``EnhancementGAN.fit`` adds it by itself."""

    def on_train_batch_end(self, batch, logs=None):
        bad = sorted(name for name, value in (logs or {}).items() if not np.all(np.isfinite(np.asarray(value))))
        if bad:
            raise TrainingDiverged(
                f"{', '.join(bad)} became NaN or infinite at step {batch + 1} of this epoch, so training stopped; the "
                "last backup is from the epoch before. What usually helps: a learning rate 10 times smaller "
                "(model.compile(g_optimizer=..., d_optimizer=...)), clipnorm=5 on both optimisers, and a look at the "
                "data (ganse_tf.audio.validate finds NaN and infinity)."
            )


class TimeBudget(keras.callbacks.Callback):
    """Stops training politely after `minutes` (at the end of the running step).

    Args:
        minutes: wall-clock minutes from the start of ``fit``.
    """

    def __init__(self, minutes):
        super().__init__()
        if minutes <= 0:
            raise ValueError(f"minutes is {minutes}; give a positive number of minutes.")
        self.minutes = float(minutes)

    def on_train_begin(self, logs=None):
        self.deadline = time.monotonic() + 60.0 * self.minutes

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() >= self.deadline:
            self.model.stop_training = True


class PerceptualValidation(keras.callbacks.Callback):
    """Enhances validation pairs after an epoch and adds their mean scores to the logs (``val_pesq_wb``, ...).

    Put it before ``CSVLogger``, ``ModelCheckpoint(monitor="val_pesq_wb", mode="max")`` or ``EarlyStopping`` in the list, so
    that those see the scores.

    Args:
        pairs: validation pairs (never the test pairs: a checkpoint chosen on them is fitted to them).
        metrics: names of ``ganse_tf.metrics``.
        every: epochs between two validations.
        workers: processes for scoring, 0 = this one.
    """

    def __init__(self, pairs, metrics=("pesq_wb", "stoi", "si_sdr"), every=1, workers=0):
        super().__init__()
        self.pairs, self.names, self.every, self.workers = pairs, tuple(metrics), int(every), workers
        self.history = []

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        table = self.model.evaluate_pairs(self.pairs, self.names, workers=self.workers, progress=False)
        means = table.means()
        self.history.append({"epoch": epoch + 1, **{name: means[name] for name in self.names}})
        if logs is not None:
            logs.update({f"val_{name}": means[name] for name in self.names})


class AudioSamples(keras.callbacks.Callback):
    """Writes enhanced sound and its spectrogram to TensorBoard after each epoch (extra ``viz``).

    Args:
        pairs: a few pairs to follow through training.
        log_dir: TensorBoard's folder.
        every: epochs between two writes.
    """

    def __init__(self, pairs, log_dir, every=1):
        super().__init__()
        self.pairs, self.log_dir, self.every = list(pairs), str(log_dir), int(every)

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.every:
            return
        import tensorflow as tf

        from ganse_tf import viz

        with self.writer.as_default(step=epoch + 1):
            for pair in self.pairs:
                noisy, clean, rate = pair.load()
                enhanced = self.model.enhance(noisy, rate)
                tf.summary.audio(f"{pair.name}/enhanced", enhanced[None, :, None], rate)
                tf.summary.image(f"{pair.name}/spectrograms", viz.as_image(viz.triptych(noisy, enhanced, clean, rate))[None])
            for name, value in (logs or {}).items():
                tf.summary.scalar(name, float(value))

    def on_train_end(self, logs=None):
        self.writer.close()
