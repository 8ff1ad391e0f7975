"""A small recogniser of connected digits: does enhancement lower the word error rate? (FSEGAN)

Two convolutions shorten time and frequency by four, a bidirectional LSTM reads the whole utterance, and a dense layer
gives ten digits and a blank per step. CTC sums the probability of every way to stretch the digit string over the steps:

    loss = -ln sum over paths that collapse to the text of prod_t p(path_t | features)

Greedy decoding takes the best symbol per step, merges repeats and drops blanks. The recogniser reads any features of
shape (frames, bins), so that an enhancer which stops at log-mel spectra (FSEGAN) can feed it directly.

Differs from the FSEGAN paper: it used a listen-attend-spell model on 81 h of WSJ; digits and CTC need minutes, not days.
The four ways to use an enhancer are the paper's: as it is (on ASR-Clean and on ASR-MTR), retraining on enhanced features,
and "hybrid", retraining on noisy and enhanced features as two channels with the new weights starting at zero.

References:
    A. Graves et al., "Connectionist temporal classification", ICML 2006.
    C. Donahue, B. Li, R. Prabhavalkar, "Exploring speech enhancement with generative adversarial networks for robust
    speech recognition", ICASSP 2018, section 4, tables 1 and 2.
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, noises, scoring
from ganse_tf.layers import FastBLSTM

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
BLANK = len(DIGITS)
STD_FLOOR = 1e-3  # a band that is constant in training would otherwise divide by zero
TRAIN_SNRS_DB, TEST_SNRS_DB = (0, 5, 10, 15, 20, 30), (0.2, 5.2, 10.2, 15.2, 20.2)  # the paper shifts its test by 0.2 dB


@keras.saving.register_keras_serializable("ganse_tf")
class DigitRecogniser(keras.Model):
    """Connected-digit recogniser trained with CTC.

    Args:
        n_bins: feature bands, for example 128 (FSEGAN's log-mel).
        channels: 1, or 2 for stacked noisy and enhanced features; see `with_channels`.
        width: units of the BLSTM in each direction.

    Input: float (batch, frames, n_bins) or (batch, frames, n_bins, channels); `n_frames` (batch,) masks padding.
    Output: float32 logits (batch, ceil(frames / 4), 11), the blank last.

    Example:
        >>> DigitRecogniser(n_bins=40)(np.zeros((1, 80, 40), "float32")).shape
        TensorShape([1, 20, 11])
    """

    def __init__(self, n_bins, channels=1, width=64, **kwargs):
        super().__init__(**kwargs)
        self.n_bins, self.channels, self.width = n_bins, channels, width
        shape = (n_bins, channels)
        self.mean = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="mean")
        self.std = self.add_weight(shape=shape, initializer="ones", trainable=False, name="std")
        self.conv1 = keras.layers.Conv2D(16, 3, strides=2, activation="relu", name="conv1")
        self.conv2 = keras.layers.Conv2D(32, 3, strides=2, activation="relu", name="conv2")
        self.squeeze = keras.layers.Dense(96, activation="relu", name="squeeze")
        self.drop = keras.layers.Dropout(0.2, name="drop")
        self.blstm = FastBLSTM(width, name="blstm")
        self.to_logits = keras.layers.Dense(len(DIGITS) + 1, name="to_logits")
        self.loss_mean = keras.metrics.Mean("loss")
        self(np.zeros((1, 8, n_bins, channels), np.float32))  # builds every weight now
        batch = [tf.TensorSpec((None, None, n_bins, channels)), tf.TensorSpec((None,), tf.int32)]
        self.forward = tf.function(lambda x, n: self(x, n), input_signature=batch, autograph=False)

    def call(self, features, n_frames=None, training=False):
        x = keras.ops.cast(features, "float32")
        x = x[..., None] if len(x.shape) == 3 else x  # (batch, T, F, channels)
        x = (x - self.mean) / self.std
        n = keras.ops.full((keras.ops.shape(x)[0],), keras.ops.shape(x)[1], "int32") if n_frames is None else n_frames
        for conv in (self.conv1, self.conv2):
            # Zeros beyond an utterance's own end and one zero on every side: padding to a longer batch changes nothing.
            x = x * keras.ops.cast(valid(n, x), x.dtype)[:, :, None, None]
            x = conv(keras.ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]]))
            n = (n + 1) // 2
        x = keras.ops.reshape(x, (keras.ops.shape(x)[0], -1, x.shape[2] * x.shape[3]))  # (batch, T/4, F/4 * 32)
        x = self.drop(self.squeeze(x), training=training)  # (batch, T/4, 96)
        return self.to_logits(self.drop(self.blstm(x, mask=valid(n, x)), training=training))

    def train_step(self, batch):
        """One CTC step: 1. logits, 2. loss per utterance, 3. gradient clipped by the optimiser."""
        features, n_frames, labels, n_labels = batch
        with tf.GradientTape() as tape:
            logits = self(features, n_frames, training=True)
            losses = tf.nn.ctc_loss(
                labels, logits, n_labels, steps(n_frames), logits_time_major=False, blank_index=BLANK
            )
            loss = tf.reduce_mean(losses / tf.cast(n_labels, tf.float32))
        variables = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, variables), variables)
        self.loss_mean.update_state(loss)
        return {"loss": self.loss_mean.result()}

    @property
    def metrics(self):
        return [self.loss_mean]

    def adapt(self, features):
        """Sets the normalisation to the mean and standard deviation per band of a list of feature arrays."""
        frames = np.concatenate([as_channels(f, self.channels) for f in features])
        self.mean.assign(frames.mean(axis=0))
        self.std.assign(np.maximum(frames.std(axis=0), STD_FLOOR))

    def with_channels(self, channels):
        """Returns a copy that reads `channels` channels and, until trained, answers as this one: new weights are zero.

        The new channels share the normalisation of the last old one.
        """
        new, bigger = channels - self.channels, DigitRecogniser(self.n_bins, channels, self.width)
        if new < 0:
            raise ValueError(f"channels={channels} is fewer than the {self.channels} this recogniser reads.")
        for theirs, ours in zip(bigger.weights, self.weights):
            ours = np.asarray(ours)
            if ours.ndim == 4 and ours.shape != theirs.shape:  # conv1: (3, 3, channels, 16)
                ours = np.pad(ours, [(0, 0), (0, 0), (0, new), (0, 0)])
            elif ours.shape != theirs.shape:  # mean and std: (bins, channels)
                ours = np.pad(ours, [(0, 0), (0, new)], mode="edge")
            theirs.assign(ours)
        return bigger

    def get_config(self):
        return {**super().get_config(), "n_bins": self.n_bins, "channels": self.channels, "width": self.width}


def valid(n_frames, x):
    """Boolean mask (batch, time) that is True for the first `n_frames` steps of `x` (batch, time, ...)."""
    return keras.ops.arange(keras.ops.shape(x)[1])[None] < n_frames[:, None]


def steps(n_frames):
    """Output steps for a number of frames: two convolutions of stride 2, ceil(ceil(n / 2) / 2)."""
    return (n_frames + 3) // 4


def as_channels(features, channels=1):
    """One utterance as float32 (frames, bins, channels); refuses anything else with the shape it received."""
    features = np.asarray(features, np.float32)
    features = features[..., None] if features.ndim == 2 else features
    if features.ndim != 3 or features.shape[-1] != channels or len(features) == 0:
        raise ValueError(
            f"Features of one utterance have shape {features.shape}; expected (frames, bins) or (frames, bins, "
            f"{channels}) with at least one frame. Stack noisy and enhanced features with np.stack(..., axis=-1)."
        )
    return features


def pad(arrays):
    """Stacks arrays of different lengths, zeros at the end; returns (stacked, int32 lengths)."""
    lengths = np.array([len(a) for a in arrays], np.int32)
    stacked = np.zeros((len(arrays), lengths.max(), *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(stacked, arrays):
        row[: len(array)] = array
    return stacked, lengths


def to_labels(text):
    """Digit indices of a transcript: "two zero" -> [2, 0]."""
    unknown = [word for word in text.split() if word not in DIGITS]
    if unknown or not text.split():
        raise ValueError(f"The recogniser only knows {', '.join(DIGITS)}; received the transcript {text!r}.")
    return [DIGITS.index(word) for word in text.split()]


def train(recogniser, features, texts, epochs=36, batch_size=8, learning_rate=4e-3, seed=0, verbose=0):
    """Trains a recogniser with Adam; the normalisation is set first if it never was.

    Args:
        recogniser: DigitRecogniser, changed in place.
        features: list of arrays (frames, bins) or (frames, bins, channels).
        texts: list of digit strings in words.
        epochs, batch_size, learning_rate: of Adam, gradient norm clipped at 5. CTC first learns to say nothing but
            blanks: expect a plateau near 2.7 nats for some 200 steps, then a steep fall.
        seed: of the order of the utterances.
        verbose: passed to ``fit``.

    Returns:
        List of the mean loss (nats per digit) of every epoch.
    """
    if len(features) != len(texts) or not texts:
        raise ValueError(f"There are {len(features)} feature arrays and {len(texts)} texts; expected one text for each.")
    if not np.any(recogniser.mean):
        recogniser.adapt(features)
    recogniser.compile(keras.optimizers.Adam(learning_rate, global_clipnorm=5.0), jit_compile=False)
    features = pad([as_channels(x, recogniser.channels) for x in features])
    labels = pad([np.array(to_labels(text), np.int32) for text in texts])
    dataset = tf.data.Dataset.from_tensor_slices((*features, *labels))
    dataset = dataset.shuffle(len(texts), seed=seed).batch(batch_size)
    return recogniser.fit(dataset, epochs=epochs, verbose=verbose, shuffle=False).history["loss"]


def transcribe(recogniser, features, batch_size=32):
    """Greedy CTC transcripts ("two zero ...") of a list of feature arrays."""
    padded, n_frames = pad([as_channels(x, recogniser.channels) for x in features])
    texts = []
    for start in range(0, len(padded), batch_size):
        part = slice(start, start + batch_size)
        best = np.argmax(recogniser.forward(padded[part], n_frames[part]), axis=-1)
        texts += [greedy(path[: steps(n)]) for path, n in zip(best, n_frames[part])]
    return texts


def greedy(path):
    """Collapses a path of symbol indices: merge repeats, then drop blanks."""
    path = np.asarray(path)
    changes = np.flatnonzero(np.diff(path, prepend=-1))
    return " ".join(DIGITS[symbol] for symbol in path[changes] if symbol != BLANK)


def word_error_rate(recogniser, features, texts):
    """WER pooled over the set, (substitutions + deletions + insertions) / words, as a fraction."""
    return metrics.wer(list(texts), transcribe(recogniser, features))


@dataclass
class DigitSet:
    """Parallel lists: features of clean and noisy speech, the texts, the noisy waveforms, and their rate in Hz."""

    clean: list
    noisy: list
    texts: list
    wavs: list
    sample_rate: int = 16000


def digit_set(split, features, snrs_db=TEST_SNRS_DB, kinds=("white", "pink", "babble"), copies=1, seed=0):
    """Makes clean and noisy features of the toy corpus' digit strings.

    Args:
        split: "train", "valid" or "test".
        features: function(wav, sample_rate) -> (frames, bins), for example FSEGAN's log-mel.
        snrs_db, kinds: drawn at random for every utterance; see `ganse_tf.noises`.
        copies: noisy versions of every utterance.
        seed: of the draws.

    Returns:
        DigitSet with copies x utterances entries.
    """
    rng, made = np.random.default_rng(seed), DigitSet([], [], [], [])
    for utterance in [u for u in data.toy_corpus(split) if u.words] * copies:
        kind, snr_db, draw = rng.choice(kinds), rng.choice(snrs_db), int(rng.integers(2**31))
        noise = noises.make(str(kind), len(utterance.wav), utterance.sample_rate, seed=draw)
        noisy, clean = data.mix(utterance.wav, noise, float(snr_db), seed=draw)
        made.clean.append(np.asarray(features(clean, utterance.sample_rate)))
        made.noisy.append(np.asarray(features(noisy, utterance.sample_rate)))
        made.texts.append(utterance.text)
        made.wavs.append(noisy)
        made.sample_rate = utterance.sample_rate
    return made


def compare(train_set, test_set, enhancers, epochs=20, retrain_epochs=6, seed=0):
    """Runs the experiment of FSEGAN's tables 1 and 2: every way to put an enhancer before a recogniser.

    ASR-Clean is trained on clean, ASR-MTR on noisy features (multi-style training). Every enhancer then feeds both as they
    are, an ASR-MTR retrained on its output, and a hybrid ASR-MTR retrained on noisy and enhanced features.

    Args:
        train_set, test_set: DigitSet.
        enhancers: {name: function(DigitSet) -> list of enhanced features}. In the feature domain
            ``lambda d: [enhance(x) for x in d.noisy]``; for a waveform model
            ``lambda d: [features(model.enhance(w, d.sample_rate), d.sample_rate) for w in d.wavs]``.
        epochs, retrain_epochs: for the two recognisers, and for those that start from ASR-MTR (learning rate / 8).
        seed: of the weights and the order.

    Returns:
        List of dicts with recogniser, test ("clean" or "noisy"), enhancer and wer (a fraction).

    References:
        Donahue et al. 2018, tables 1 and 2.
    """
    rows = []

    def report(recogniser, name, test, enhancer, features):
        wer = word_error_rate(recogniser, features, test_set.texts)
        rows.append({"recogniser": name, "test": test, "enhancer": enhancer, "wer": wer})

    recognisers = {}
    for name, features in (("ASR-Clean", train_set.clean), ("ASR-MTR", train_set.noisy)):
        keras.utils.set_random_seed(seed)
        recognisers[name] = DigitRecogniser(features[0].shape[1])
        train(recognisers[name], features, train_set.texts, epochs, seed=seed)
        report(recognisers[name], name, "clean", "none", test_set.clean)
        report(recognisers[name], name, "noisy", "none", test_set.noisy)
    for enhancer, enhance in enhancers.items():
        enhanced = [[np.asarray(x, np.float32) for x in enhance(d)] for d in (train_set, test_set)]
        stacked = [
            [np.stack(pair, axis=-1) for pair in zip(d.noisy, e)] for d, e in zip((train_set, test_set), enhanced)
        ]
        for name, recogniser in recognisers.items():
            report(recogniser, name, "noisy", enhancer, enhanced[1])
        for name, (for_training, for_test) in (("retrained", enhanced), ("hybrid", stacked)):
            recogniser = recognisers["ASR-MTR"].with_channels(2 if name == "hybrid" else 1)
            train(recogniser, for_training, train_set.texts, retrain_epochs, learning_rate=5e-4, seed=seed)
            report(recogniser, f"ASR-MTR, {name}", "noisy", enhancer, for_test)
    return rows


def table(rows):
    """Markdown text of the rows of `compare`."""
    cells = ([r["recogniser"], r["test"], r["enhancer"], f"{100 * r['wer']:.1f}"] for r in rows)
    return scoring.markdown_table(["recogniser", "test", "enhancer", "WER %"], cells)
