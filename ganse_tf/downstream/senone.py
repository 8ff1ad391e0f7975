"""Acoustic models on word states ("senones"): the judge of feature-domain enhancement. (AFM)

A speech recogniser of the GMM-HMM and early neural kind cuts every word into a few states and asks a network, frame by
frame, for the state: p(state | features). The states of Kaldi-size systems are clustered triphone states, 3012 in the AFM
paper. Here silence is state 0 and each of the ten digits has 3 states, 31 in all, taken from the word boundaries that
the toy corpus knows. Two error rates follow: the share of frames whose best state is wrong (senone error), and the word
error of a Viterbi search over the loop "silence and digits in any order" with the scaled likelihoods (digit error)

    ln p(features | state) = ln p(state | features) - ln p(state) + constant.

Differs from the paper: 31 word states for 3012 senones; uniform segmentation of each word, refined by `force_align` if
wanted, for a GMM-HMM alignment; digits in a loop for a 5000-word trigram.

References:
    Z. Meng, J. Li, Y. Gong, B.-H. Juang, "Adversarial feature-mapping for speech enhancement", Interspeech 2018, section 4.
    L. Rabiner, "A tutorial on hidden Markov models", Proc. IEEE 77(2), 1989, section III.
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import metrics, signal
from ganse_tf.downstream.asr import DIGITS, pad
from ganse_tf.layers import FastLSTM

N_STATES = 3  # per word
SILENCE = 0
N_SENONES = 1 + N_STATES * len(DIGITS)  # 31
WIN_SECONDS, HOP_SECONDS = 0.025, 0.010
N_LFB = 29  # AFM, section 4
SELF_LOOP = 0.7  # probability of staying in a state: a mean of 3.3 frames, below that of any digit state
WORD_PENALTY = 20.0  # nats; of 0, 5, 10, 20 the best for the validation speakers: neighbouring frames are not independent
IGNORE = -1  # label of padding


# ---- features and labels ---------------------------------------------------------------------------------------------


def lfb(wav, sample_rate=16000):
    """Computes AFM's 29 log-mel filterbank energies: ln max(power mel, 1e-8), 25 ms Hamming window, 10 ms hop.

    Args:
        wav: (..., n).
        sample_rate: Hz.

    Returns:
        float32 tensor (..., frames, 29) with 1 + (n - win) // hop frames; frame t is centred at 10 t + 12.5 ms.

    Example:
        >>> lfb(np.zeros(16000, "float32")).shape
        TensorShape([98, 29])
    """
    win, hop = round(WIN_SECONDS * sample_rate), round(HOP_SECONDS * sample_rate)
    n_fft = 1 << (win - 1).bit_length()
    return signal.log_mel(
        wav, sample_rate, n_fft, hop, win, n_mels=N_LFB, fmin=0.0, fmax=None, floor=1e-8, power=2.0, window="hamming"
    )


def add_deltas(static, reach=2):
    """Appends first and second differences: regression over +-2 frames, edges repeated; (..., T, F) -> (..., T, 3 F).

    delta_t = sum_k k (x_{t+k} - x_{t-k}) / (2 sum_k k^2), k = 1 ... reach.

    Example:
        >>> add_deltas(np.arange(20.0)[:, None])[10].numpy().round(4).tolist()
        [10.0, 1.0, 0.0]
    """

    def delta(x):
        windows = signal.context(x, reach, reach)  # (..., T, 2 reach + 1, F)
        weights = tf.range(-reach, reach + 1, dtype=tf.float32)
        return tf.einsum("...kf,k->...f", windows, weights / tf.reduce_sum(weights**2))

    first = delta(tf.convert_to_tensor(static, tf.float32))
    return tf.concat([tf.cast(static, tf.float32), first, delta(first)], axis=-1)


def splice(features, reach=5):
    """Joins every frame with its 5 neighbours on both sides, edges repeated; (..., T, F) -> (..., T, 11 F)."""
    windows = signal.context(features, reach, reach)
    return tf.reshape(windows, [*tf.unstack(tf.shape(windows)[:-2]), windows.shape[-2] * windows.shape[-1]])


def alignments(utterance, n_frames=None):
    """Labels every frame of a toy utterance: 0 for silence, 1 + 3 digit + state inside a word cut into equal states.

    Args:
        utterance: with `wav`, `sample_rate` and `words` = ((word, start_s, end_s), ...), as from `data.toy_corpus`.
        n_frames: frames of the features; None takes those of `lfb`.

    Returns:
        int32 array (n_frames,).

    Raises:
        ValueError: the utterance has no word boundaries, or a word that is not a digit.

    Example:
        >>> from types import SimpleNamespace
        >>> alignments(SimpleNamespace(words=(("one", 0.0125, 0.0725),)), n_frames=8).tolist()
        [4, 4, 5, 5, 6, 6, 0, 0]
    """
    if not utterance.words:
        raise ValueError(
            "The utterance has no word boundaries (words is empty), so its frames cannot be labelled; take the digit "
            "strings of data.toy_corpus(): [u for u in data.toy_corpus('train') if u.words]."
        )
    if n_frames is None:
        n_frames = lfb(utterance.wav, utterance.sample_rate).shape[0]
    centres = HOP_SECONDS * np.arange(n_frames) + WIN_SECONDS / 2
    labels = np.full(n_frames, SILENCE, np.int32)
    for word, start, end in utterance.words:
        if word not in DIGITS:
            raise ValueError(f"Word {word!r} has no states; expected one of {', '.join(DIGITS)}.")
        inside = (centres >= start - 1e-9) & (centres < end - 1e-9)
        state = (N_STATES * (centres[inside] - start) / (end - start) + 1e-6).astype(np.int32)
        labels[inside] = senones_of(word)[0] + np.minimum(state, N_STATES - 1)
    return labels


def senones_of(word):
    """The three senone numbers of a digit, in order."""
    first = 1 + N_STATES * DIGITS.index(word)
    return list(range(first, first + N_STATES))


# ---- networks --------------------------------------------------------------------------------------------------------


def projected_lstm(units, projection, **lstm_options):
    """LSTM followed by a linear layer to fewer dimensions: "LSTM with projection" read the simple way."""
    lstm = FastLSTM(units, return_sequences=True, **lstm_options)
    return keras.Sequential([lstm, keras.layers.Dense(projection)])


def build_acoustic_model(
    n_senones=3012, feature_dim=29, layers=4, units=1024, projection=512, recurrent=projected_lstm, name="acoustic_model"
):
    """Builds AFM's joint acoustic model M: LSTM layers with projection, then senone logits.

    Args:
        n_senones: outputs; paper 3012, toy 31.
        feature_dim: paper 29 (enhanced static log-mel).
        layers, units, projection: paper 4, 1024, 512.
        recurrent: function(units, projection) -> layer on (batch, frames, features); replace it for another reading of
            "projection" (an LSTM whose projected output feeds back).

    Returns:
        keras.Model (batch, frames, feature_dim) -> float32 logits (batch, frames, n_senones).

    Example:
        >>> build_acoustic_model(n_senones=31, layers=2, units=96, projection=48).output_shape
        (None, None, 31)
    """
    x = inputs = keras.Input((None, feature_dim), name="features")
    for _ in range(layers):
        x = recurrent(units, projection)(x)  # (batch, T, projection)
    logits = keras.layers.Dense(n_senones, dtype="float32", name="senones")(x)  # (batch, T, n_senones)
    return keras.Model(inputs, logits, name=name)


def build_dnn(n_senones=3012, feature_dim=957, layers=7, units=2048, name="dnn_acoustic_model"):
    """Builds AFM's clean evaluation model: dense ReLU layers on (29 + deltas) spliced over 11 frames = 957.

    Returns:
        keras.Model (batch, frames, feature_dim) -> float32 logits (batch, frames, n_senones).

    Example:
        >>> build_dnn(n_senones=31, layers=2, units=128).output_shape
        (None, None, 31)
    """
    x = inputs = keras.Input((None, feature_dim), name="features")
    for _ in range(layers):
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(n_senones, dtype="float32", name="senones")(x), name=name)


def tiny_acoustic_model(feature_dim=29):
    """M for the toy corpus: 2 x 96 LSTM with projection 48 and 31 senones."""
    return build_acoustic_model(N_SENONES, feature_dim, layers=2, units=96, projection=48)


def tiny_dnn(feature_dim=957):
    """The clean evaluation model for the toy corpus: 2 x 128."""
    return build_dnn(N_SENONES, feature_dim, layers=2, units=128)


def cross_entropy(labels, logits):
    """Mean of -ln p(label) over the frames whose label is not -1 (padding); AFM, equation (14)."""
    labels = tf.cast(labels, tf.int32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.maximum(labels, 0), logits)
    valid = tf.cast(labels != IGNORE, tf.float32)
    return tf.reduce_sum(losses * valid) / tf.maximum(tf.reduce_sum(valid), 1.0)


def train(model, features, labels, epochs=20, batch_size=16, learning_rate=2e-3, seed=0, verbose=0):
    """Trains an acoustic model with Adam on lists of (frames, dims) features and (frames,) labels.

    Features should be normalised (zero mean, unit variance per dimension); see `normaliser`.

    Returns:
        List of the mean cross-entropy (nats per frame) of every epoch.

    Raises:
        ValueError: an utterance whose features and labels differ in length.
    """
    wrong = [(i, len(x), len(y)) for i, (x, y) in enumerate(zip(features, labels)) if len(x) != len(y)]
    if wrong or len(features) != len(labels):
        raise ValueError(
            f"{len(features)} feature arrays and {len(labels)} label arrays; (index, frames, labels) that differ: "
            f"{wrong[:3]}. Call alignments(utterance, n_frames=len(features))."
        )
    x, n_frames = pad([np.asarray(f, np.float32) for f in features])
    y = pad([np.asarray(v, np.int32) for v in labels])[0]
    y[np.arange(y.shape[1])[None] >= n_frames[:, None]] = IGNORE
    model.compile(keras.optimizers.Adam(learning_rate, global_clipnorm=5.0), loss=cross_entropy, jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=seed).batch(batch_size)
    return model.fit(dataset, epochs=epochs, shuffle=False, verbose=verbose).history["loss"]


def normaliser(features):
    """Returns a function that subtracts the mean and divides by the standard deviation per dimension of `features`."""
    frames = np.concatenate([np.asarray(f) for f in features])
    mean, std = frames.mean(axis=0), np.maximum(frames.std(axis=0), 1e-3)
    return lambda x: ((np.asarray(x) - mean) / std).astype(np.float32)


def posteriors(model, features, batch_size=32):
    """Senone posteriors of a list of features, as a list of float32 arrays (frames, n_senones) whose rows sum to 1."""
    padded, n_frames = pad([np.asarray(f, np.float32) for f in features])  # left to right: padding changes nothing
    parts = [padded[i : i + batch_size] for i in range(0, len(padded), batch_size)]
    out = [p for part in parts for p in tf.nn.softmax(model(part, training=False)).numpy()]
    return [p[:n] for p, n in zip(out, n_frames)]


# ---- error rates -----------------------------------------------------------------------------------------------------


def priors(labels, n_senones=N_SENONES):
    """Relative frequency of every senone in a list of label arrays, with one count added to each."""
    counts = np.bincount(np.concatenate(labels), minlength=n_senones) + 1.0
    return counts / counts.sum()


def senone_error(posterior, labels):
    """Share of frames whose most probable senone is not the label; lists of (frames, n) and (frames,), pooled."""
    wrong = sum(int(np.sum(np.argmax(p, axis=-1) != y)) for p, y in zip(posterior, labels))
    return wrong / sum(len(y) for y in labels)


def digit_error(posterior, texts, prior, word_penalty=WORD_PENALTY):
    """Pooled word error rate of the Viterbi search over digits and silence; `posterior` is a list, `texts` transcripts."""
    hypotheses = [decode(np.log(p + 1e-10) - np.log(prior), word_penalty) for p in posterior]
    return metrics.wer(list(texts), hypotheses)


def decode(scores, word_penalty=WORD_PENALTY):
    """Finds the digits of the best path through the loop of digits and silence.

    Args:
        scores: scaled log-likelihoods (frames, 31), ln posterior - ln prior.
        word_penalty: subtracted (nats) at the start of every word; raise it when too many words are inserted.

    Returns:
        Digits as text, "two zero".

    Example:
        >>> labels = [0] * 4 + [7] * 5 + [8] * 5 + [9] * 5 + [0] * 3
        >>> decode(10 * np.eye(31)[labels])
        'two'
    """
    move = np.full((N_SENONES, N_SENONES), -np.inf)
    np.fill_diagonal(move, np.log(SELF_LOOP))
    leave, firsts = np.log(1 - SELF_LOOP), [senones_of(w)[0] for w in DIGITS]
    lasts = [senones_of(w)[-1] for w in DIGITS]
    for word in DIGITS:
        a, b, c = senones_of(word)
        move[a, b] = move[b, c] = leave
    enter = leave - np.log(len(DIGITS) + 1)  # eleven ways to go on
    move[np.ix_([SILENCE, *lasts], firsts)] = enter - word_penalty
    move[lasts, SILENCE] = enter
    start = np.full(N_SENONES, -np.inf)
    start[SILENCE], start[firsts] = 0, -word_penalty
    end = np.full(N_SENONES, -np.inf)
    end[[SILENCE, *lasts]] = 0
    path = _viterbi(scores, move, start, end)
    new_word = [t for t, s in enumerate(path) if s in firsts and (t == 0 or path[t - 1] != s)]
    return " ".join(DIGITS[(path[t] - 1) // N_STATES] for t in new_word)


def force_align(scores, text):
    """Aligns known digits to frames: the best path through their states, with optional silence around every word.

    Args:
        scores: scaled log-likelihoods (frames, 31).
        text: the digits spoken.

    Returns:
        int32 senone labels (frames,).

    Raises:
        ValueError: fewer frames than states.
    """
    chain = [SILENCE]
    for word in text.split():
        chain += [*senones_of(word), SILENCE]
    n_states = N_STATES * len(text.split())
    if len(scores) < max(n_states, 1):
        raise ValueError(f"{len(scores)} frames cannot hold the {n_states} states of {text!r}; is the text right?")
    n = len(chain)
    move = np.full((n, n), -np.inf)
    np.fill_diagonal(move, np.log(SELF_LOOP))
    move[np.arange(n - 1), np.arange(1, n)] = np.log(1 - SELF_LOOP)
    silences = np.arange(0, n, N_STATES + 1)
    move[silences[1:-1] - 1, silences[1:-1] + 1] = np.log(1 - SELF_LOOP)  # skip the silence between two words
    start, end = np.full(n, -np.inf), np.full(n, -np.inf)
    start[:2] = end[-2:] = 0
    return np.array(chain, np.int32)[_viterbi(np.asarray(scores)[:, chain], move, start, end)]


def _viterbi(scores, move, start, end):
    """Best state sequence for scores (T, S), log transitions (S, S) and log start and end weights (S,)."""
    best, back = start + scores[0], np.zeros(scores.shape, np.int32)
    for t in range(1, len(scores)):
        ways = best[:, None] + move
        back[t] = np.argmax(ways, axis=0)
        best = ways[back[t], np.arange(len(best))] + scores[t]
    path = [int(np.argmax(best + end))]
    for t in range(len(scores) - 1, 0, -1):
        path.append(int(back[t, path[-1]]))
    return path[::-1]


def error_rates(posterior, labels, texts, prior):
    """Both error rates in percent, as {"senone error (%)": float, "digit error (%)": float}."""
    found = {"senone error (%)": senone_error(posterior, labels), "digit error (%)": digit_error(posterior, texts, prior)}
    return {name: 100 * value for name, value in found.items()}


class CleanRecogniser:
    """AFM's judge of features (its Table 1): a dense model of 11 frames that has only ever heard clean speech.

    Args:
        utterances: digit strings with known words, as in `data.toy_corpus("train")`; others are left out.
        epochs, seed: of `train`.
        model: the network; None is `tiny_dnn()`.

    Example:
        >>> judge = CleanRecogniser(data.toy_corpus("train"))  # doctest: +SKIP
        >>> judge.error_rates(features, labels, texts)  # doctest: +SKIP
    """

    def __init__(self, utterances, epochs=20, seed=0, model=None):
        utterances = [u for u in utterances if u.words]
        features = [lfb(u.wav, u.sample_rate) for u in utterances]
        labels = [alignments(u, len(f)) for u, f in zip(utterances, features)]
        inputs = [splice(add_deltas(f)).numpy() for f in features]
        self.model, self.prior, self.normalise = model or tiny_dnn(), priors(labels), normaliser(inputs)
        train(self.model, [self.normalise(x) for x in inputs], labels, epochs, learning_rate=1e-3, seed=seed)

    def error_rates(self, features, labels, texts):
        """Senone and digit error in percent of static energies (frames, 29), noisy, mapped or clean."""
        inputs = [self.normalise(splice(add_deltas(f))) for f in features]
        return error_rates(posteriors(self.model, inputs), labels, texts, self.prior)
