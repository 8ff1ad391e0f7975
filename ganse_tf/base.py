"""`EnhancementGAN`: what all eleven papers need and none of them is about.

A paper file builds ``self.generator`` and ``self.discriminator``, writes ``train_step`` in full, and says how a waveform
becomes training examples (``preprocess``) and how a noisy waveform becomes an enhanced one (``enhance_segment``).
This file adds the rest: two optimisers that survive saving, one update helper, logs, a guard against NaN, and
``enhance`` for any sound.

Why both optimisers are built in ``compile``: Keras builds an optimiser at its first step, and on loading it only warns
"Skipping variable loading for optimizer" when there is nothing built yet.  A GAN resumed that way silently restarts
Adam or RMSprop from zero.  Built early, weights *and* slots come back bit for bit.
"""

import itertools

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import audio
from ganse_tf.callbacks import NaNGuard

SAMPLE_RATE = 16000  # Hz; every one of the eleven papers works at 16 kHz
WINDOW = 30 * SAMPLE_RATE  # samples; enhance() works in windows of 30 s, so memory does not grow with the file
STATISTICS_BATCHES = 200  # at most so many batches are read for mean and deviation
SILENCE = 1e-6  # RMS, -120 dBFS: below it there is nothing to make louder
OVERLAP = SAMPLE_RATE  # samples shared by neighbouring windows and cross-faded: 1 s


def options(arguments):
    """A paper file's own constructor arguments from its ``locals()``: what `get_config` saves and JSON can hold."""
    ours = ("self", "kwargs", "__class__", "adversarial_weight")  # the last one is the base class's
    return {name: _plain(value) for name, value in arguments.items() if name not in ours}


def _plain(value):
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


class EnhancementGAN(keras.Model):
    """Base of all models: builds, compiles, saves, resumes, enhances and evaluates.

    Args:
        config: the paper file's own constructor arguments, ``options(locals())``.
        adversarial_weight: weight of the adversarial term in G's loss; 0 trains G by plain regression and leaves D
            out of the step altogether (the ablation "does D do anything?").
        level_db: dBFS; `enhance` brings the RMS level of a recording there, where the training was, and its output back.
            None leaves the level alone.
        seed: seed of every random draw inside the model (z, augmentation noise). The draws depend only on this number
            and on ``self.step``, a saved counter, so a resumed run repeats the uninterrupted one.

    A subclass sets ``generator`` and ``discriminator`` and overrides ``preprocess``, ``train_step``,
    ``enhance_segment``, ``default_optimizers`` and the class attributes below.
    """

    sample_rate = SAMPLE_RATE
    paper = ""  # "Authors, year: title"
    url = ""
    domain = ""  # what the network sees: "waveform", "STFT magnitude", ...
    outputs = "speech"  # or "features": systems made for a recogniser, not for the ear
    logs = ("d_loss", "g_loss", "d_real", "d_fake", "d_grad_norm", "g_grad_norm")  # a paper file adds its own terms
    padded = False  # True: examples have a free time axis and are padded to the longest of a batch
    window, overlap = WINDOW, OVERLAP  # samples, of enhance()
    choices = {}  # option -> what it may be, the default first

    def __init__(self, *, config=None, adversarial_weight=1.0, level_db=None, seed=0, **kwargs):
        super().__init__(**kwargs)
        if adversarial_weight < 0:
            raise ValueError(f"adversarial_weight is {adversarial_weight}; it must be >= 0 (0 switches D off).")
        self._config = dict(config or {})
        for option, allowed in self.choices.items():
            if self._config[option] not in allowed:
                raise ValueError(f"{option} is {self._config[option]!r}; use {' or '.join(repr(a) for a in allowed)}.")
        self.adversarial_weight = float(adversarial_weight)
        self.level_db = level_db
        self.seed = int(seed)
        self.step = self.add_weight(
            name="step", shape=(), dtype="int32", initializer="zeros", trainable=False, aggregation="only_first_replica"
        )
        self._trackers = _Trackers()
        self.built = True  # both networks are built in __init__; Keras would otherwise refuse save_weights

    # ---- building ----------------------------------------------------------------------------------------------------

    def default_optimizers(self):
        """The paper's two optimisers, ``(g_optimizer, d_optimizer)``."""
        raise NotImplementedError(f"{type(self).__name__} does not say which optimisers its paper used.")

    def network_variables(self, network):
        """Trainable variables updated by the optimiser of `network` ("generator" or "discriminator")."""
        return getattr(self, network).trainable_variables

    def compile(self, g_optimizer=None, d_optimizer=None, jit_compile=False, **kwargs):
        """Attach and build both optimisers (default: the paper's).

        Args:
            g_optimizer, d_optimizer: Keras optimisers or their names.
            jit_compile: XLA. Off by default: on a CPU it is slower for convolutions, and a metric in Python (MetricGAN)
                cannot be compiled. Keras' "auto" would switch it on for a GPU only.
            **kwargs: passed to ``keras.Model.compile`` (``steps_per_execution``, ``run_eagerly``).
        """
        if jit_compile == "auto":
            jit_compile = False
        defaults = self.default_optimizers()
        g_optimizer = keras.optimizers.get(g_optimizer or defaults[0])
        d_optimizer = keras.optimizers.get(d_optimizer or defaults[1])
        super().compile(optimizer=g_optimizer, jit_compile=jit_compile, **kwargs)
        if self.dtype_policy.name == "mixed_float16" and not hasattr(d_optimizer, "inner_optimizer"):
            d_optimizer = keras.optimizers.LossScaleOptimizer(d_optimizer)  # Keras wraps only `optimizer`
        self.d_optimizer = d_optimizer
        for optimizer, network in ((self.optimizer, "generator"), (self.d_optimizer, "discriminator")):
            if not optimizer.built:
                optimizer.build(self.network_variables(network))
        for layer in self._flatten_layers():
            if hasattr(layer, "fast"):
                layer.fast = not jit_compile  # the quick CPU kernels of layers.py are not XLA's
        self._trackers.means = {name: keras.metrics.Mean(name=name) for name in self.logs}

    @property
    def g_optimizer(self):
        """The generator's optimiser (Keras calls it ``optimizer``)."""
        return self.optimizer

    # ---- training ----------------------------------------------------------------------------------------------------

    def minimise(self, tape, loss, network):
        """One optimiser step on one network only: the line where "D learns, G stays" (or the reverse) is decided.

        The tape may have watched every variable in the model; gradients are asked for the variables of `network` alone,
        so the other network cannot move. Handles loss scaling under mixed precision and divides by the number of
        replicas under ``tf.distribute`` (gradients are summed over replicas).

        Args:
            tape: the ``tf.GradientTape`` under which `loss` was computed.
            loss: float32 scalar.
            network: "generator" or "discriminator".

        Returns:
            float32 scalar, the norm of the whole gradient (unscaled): a health signal for the logs.
        """
        optimizer = self.optimizer if network == "generator" else self.d_optimizer
        variables = self.network_variables(network)
        scale = tf.ones_like(loss) / tf.distribute.get_strategy().num_replicas_in_sync
        if hasattr(optimizer, "inner_optimizer"):
            scale = optimizer.scale_loss(scale)
        gradients = tape.gradient(loss, variables, output_gradients=scale)
        optimizer.apply(gradients, variables)
        return tf.linalg.global_norm([tf.cast(g, tf.float32) for g in gradients if g is not None]) / scale

    def random_normal(self, shape, stream=0):
        """N(0, 1) noise that depends only on (seed, step, stream): repeatable, also after a resume."""
        step = tf.cast(tf.convert_to_tensor(self.step), tf.int32)
        return tf.random.stateless_normal(shape, seed=tf.stack([tf.constant(self.seed * 1009 + stream), step]))

    def log_step(self, **values):
        """Write named scalars to the progress bar and count one training step."""
        self.step.assign_add(1)
        return self.log(**values)

    def log(self, **values):
        """Write named scalars to the progress bar (means over the epoch)."""
        means = self._trackers.means
        for name, value in values.items():
            means[name].update_state(value)
        return {name: means[name].result() for name in values}

    @property
    def metrics(self):
        return list(self._trackers.means.values())

    def fit(self, x=None, *args, callbacks=None, backup_dir=None, **kwargs):
        """``keras.Model.fit`` with a guard against NaN and, with `backup_dir`, resume after a crash.

        A new model that scales its input first takes the statistics for that from `x` (``adapt``).

        Args:
            x: a ``tf.data.Dataset`` from ``ganse_tf.data.examples``.
            callbacks: Keras callbacks. Those that change the learning rate reach G's optimiser only.
            backup_dir: folder for a backup after every epoch. Run the same lines again after a crash and training goes
                on from the last whole epoch; the folder is removed when training ends.
            **kwargs: as in Keras (``epochs``, ``steps_per_epoch``, ``validation_data``, ``verbose``).
        """
        if not self.compiled:
            raise ValueError(f"{type(self).__name__} is not compiled: call model.compile() once before model.fit(...).")
        if not self.adapted:
            self.adapt(x)
        callbacks = [NaNGuard(), *(callbacks or [])]
        if backup_dir is not None:
            backup = keras.callbacks.BackupAndRestore(str(backup_dir), save_freq="epoch", double_checkpoint=True)
            callbacks.append(backup)
            backup.set_model(self)
            backup.on_train_begin()  # Keras restores after it has opened the data, whose order depends on the restored step
        kwargs.setdefault("shuffle", False)  # the dataset shuffles; Keras would warn
        return super().fit(x, *args, callbacks=callbacks, **kwargs)

    # ---- statistics --------------------------------------------------------------------------------------------------

    def add_statistics(self, shape, floor):
        """For a model that scales its input: weights ``mean`` and ``std`` of that shape; no deviation below `floor`."""
        self.mean = self.add_weight(name="mean", shape=shape, initializer="zeros", trainable=False)
        self.std = self.add_weight(name="std", shape=shape, initializer="ones", trainable=False)
        self.deviation_floor = floor

    @property
    def adapted(self):
        """False as long as a model that scales its input has not seen any data."""
        return not hasattr(self, "std") or bool(np.any(np.array(self.std) != 1.0))

    def adapt(self, examples):
        """Take mean and deviation from (at most 200) batches of training examples."""
        total, squares, count = 0.0, 0.0, 0
        for batch in itertools.islice(examples, STATISTICS_BATCHES):
            rows = np.asarray(self.statistics_rows(*batch), np.float64)
            total, squares, count = total + rows.sum(0), squares + np.square(rows).sum(0), count + len(rows)
        if not count:
            raise ValueError("No examples to take statistics from: every recording is shorter than one training example.")
        mean = total / count
        self.set_statistics(mean, np.sqrt(np.maximum(squares / count - mean**2, self.deviation_floor**2)))

    def set_statistics(self, mean, std):
        self.mean.assign(mean)
        self.std.assign(std)

    def statistics_rows(self, *batch):
        """One batch of training examples -> (rows, *shape of the statistics): what is averaged."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it takes statistics of.")

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """One waveform pair, float32 (n,) each -> training examples (leading axis: how many). Graph-safe."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it cuts a waveform into examples.")

    def enhance_segment(self, noisy):
        """float32 (n,) at ``sample_rate`` -> enhanced float32 (n,). Graph-safe; n is at most 30 s."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it enhances a waveform.")

    def enhance(self, noisy, sample_rate=SAMPLE_RATE):
        """Remove the noise from a recording of any length and rate, mono or stereo.

        The sound is resampled to 16 kHz, enhanced channel by channel in windows of 30 s (memory does not grow with the
        file), and resampled back. Above 8 kHz nothing comes back: the models know only 16 kHz speech.

        Args:
            noisy: float array, shape (n,) or (n, channels), in [-1, 1]; or what ``audio.read`` returned first.
            sample_rate: Hz, of `noisy`.

        Returns:
            float32 array of the same shape and rate.

        Raises:
            ganse_tf.audio.AudioError: empty, NaN, integer samples, a rate <= 0, more than 2 dimensions.

        Example:
            >>> enhanced = model.enhance(noisy, sample_rate=44100)
        """
        wav = audio.validate(noisy, sample_rate, name="noisy")
        other_rate = sample_rate != self.sample_rate
        enhanced = []
        for part in self.channels(wav):
            if other_rate:
                resampled = audio.resample(part, sample_rate, self.sample_rate)
                part = resampled if len(resampled) else part[:1]  # a sample or two at a high rate: less than one at 16 kHz
            gain = self.gain(part)
            part = part if gain == 1 else gain * part  # no copy without need: an hour of sound is 230 MB
            part = self.enhance_wave(np.ascontiguousarray(part, np.float32))
            part /= gain
            if other_rate:
                part = audio.resample(part, self.sample_rate, sample_rate)[: len(wav)]
                part = np.pad(part, [(0, len(wav) - len(part)), *[(0, 0)] * (part.ndim - 1)])
            enhanced.append(part)
        return enhanced[0] if enhanced[0].ndim == wav.ndim else np.stack(enhanced, axis=1)

    def channels(self, wav):
        """A recording (n,) or (n, channels) -> the parts that are enhanced one after the other: every channel by itself."""
        return [wav] if wav.ndim == 1 else wav.T

    def gain(self, wav):
        """What brings the recording to ``level_db``; 1 for silence."""
        if self.level_db is None:
            return np.float32(1.0)
        flat = wav.reshape(-1)
        rms = np.sqrt(np.einsum("i,i->", flat, flat, dtype=np.float64) / flat.size)  # without a copy in float64
        return np.float32(1.0 if rms < SILENCE else 10 ** (self.level_db / 20) / rms)

    def enhance_wave(self, wav):
        """Enhance float32 (n,) at ``sample_rate`` window by window, cross-fading the seams; (n, 2) if a model hears stereo."""
        key = ("enhance", *wav.shape[1:])
        if key not in self._trackers.graphs:  # one trace for all lengths
            signature = [tf.TensorSpec([None, *wav.shape[1:]], tf.float32)]
            self._trackers.graphs[key] = tf.function(self.enhance_segment, input_signature=signature)
        enhance = self._trackers.graphs[key]
        size, overlap = self.window, self.overlap
        out = np.zeros_like(wav)
        fade = np.linspace(0.0, 1.0, overlap, dtype=np.float32).reshape(-1, *[1] * (wav.ndim - 1))
        for start in range(0, max(len(wav) - overlap, 1), size - overlap):
            piece = np.array(enhance(wav[start : start + size]))
            if start:
                piece[:overlap] *= fade
            if start + size < len(wav):
                piece[size - overlap :] *= 1.0 - fade
            out[start : start + len(piece)] += piece
        return out

    def evaluate_pairs(self, pairs, metrics=None, workers=0, progress=True):
        """Enhance and score test pairs.

        Args:
            pairs: what ``ganse_tf.data.pairs`` returns, or a list of ``(noisy, clean)``.
            metrics: names of ``ganse_tf.metrics``; None means the usual set.
            workers: 0 scores in this process, n in a pool of n processes.

        Returns:
            ganse_tf.metrics.ScoreTable: one row per utterance, ``.means()``, ``.failures()``, ``.to_markdown()``.
        """
        from ganse_tf import data
        from ganse_tf import metrics as scoring

        def scored():
            for pair in data.pairs(pairs):
                noisy, clean, rate = pair.load()
                yield pair.name, clean, self.enhance(noisy, rate), rate

        return scoring.score_pairs(scored(), metrics=metrics, workers=workers, progress=progress)

    def call(self, inputs, training=False):
        return self.generator(inputs, training=training)

    # ---- saving ------------------------------------------------------------------------------------------------------

    def get_config(self):
        own = {"adversarial_weight": self.adversarial_weight, "level_db": self.level_db, "seed": self.seed, "name": self.name}
        return {**self._config, **own}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def get_compile_config(self):
        serialize = keras.saving.serialize_keras_object
        return {
            "g_optimizer": serialize(self.optimizer),
            "d_optimizer": serialize(self.d_optimizer),
            "jit_compile": self.jit_compile,
        }

    def compile_from_config(self, config):
        deserialize = keras.saving.deserialize_keras_object
        config = {k: deserialize(v) if k.endswith("optimizer") else v for k, v in config.items()}
        self.compile(**config)

    @classmethod
    def from_preset(cls, name):
        """A released model with its trained weights; ``ganse_tf.presets.names()`` lists them."""
        from ganse_tf import presets

        model = presets.from_preset(name)
        if not isinstance(model, cls):
            raise ValueError(f"Preset {name!r} is a {type(model).__name__}, not a {cls.__name__}.")
        return model


class _Trackers:
    """Keeps the running means outside Keras' attribute tracking, and a model's traced graphs, so that neither is saved."""

    def __init__(self):
        self.means = {}
        self.graphs = {}
