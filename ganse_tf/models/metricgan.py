r"""MetricGAN: Generative Adversarial Networks based Black-box Metric Scores Optimization for Speech Enhancement.

S.-W. Fu, C.-F. Liao, Y. Tsao, S.-D. Lin, ICML 2019, https://arxiv.org/abs/1905.04874
with the options of MetricGAN+ (Fu et al., Interspeech 2021, https://arxiv.org/abs/2104.03538). Authors' code:
JasonSWFu/MetricGAN and the SpeechBrain recipe.
Waveform in, STFT magnitude masked by a BLSTM, waveform out (noisy phase).

The idea: PESQ and STOI cannot be differentiated, so D learns to predict them.  D sees a spectrogram and its clean
reference and regresses the normalised score Q' in [0, 1]; G then climbs the surface that D has learnt:

    L_D = E[(D(y, y) - 1)^2 + (D(G(x), y) - Q'(G(x), y))^2]                       (eq. 4)
    L_G = E[(D(G(x), y) - s)^2],   s = 1                                          (eq. 5)
    MetricGAN+:   L_D + E[(D(x, y) - Q'(x, y))^2]

x is noisy, y clean.  D forgets, so a replay buffer keeps old outputs of G and their scores.

Differs from the paper
- Order: each epoch trains D first, then G (as in SpeechBrain); the first code skips G in epoch 1. Effect: none after it.
- D hears what the listener hears: G's magnitude goes through the inverse STFT and the STFT again (`resynth=True`, as in
  SpeechBrain). The first code trained G on mask x |X| directly: `resynth=False`. Effect: not measured.
- D's batch norm, run on batches of one utterance, is an instance norm; here it is written as one (same 4 parameters).
- Q' is clipped to [0, 1] (wide-band PESQ of identical signals maps to 1.029); no dropout 0.05 in G (first code only).
- Spectral norm: one power iteration per D step instead of one per forward pass; a step of G leaves u alone.
- Replay: G's outputs only (first code: clean speech too). Deviation of a bin: at least 1e-5 (first code: plus 1e-12).
- `d_input="loudness"` (paper: "spectra"): D sees 64 mel bands, level-aligned and compressed like loudness, and their
  difference. The paper's D soon tells a noisy utterance from a clean one, but not which of two masks of one utterance is
  better, which is the slope G climbs (`benchmarks/learn/surrogate.md`). `explore` shows D such masks.
- `adversarial_weight=0`: no D and no metric; G is trained by the mean squared error of power-compressed magnitudes.
  `l2_weight` adds the same term to eq. 5 (paper: 0).
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import layers, losses, metrics, optimizers, signal
from ganse_tf.base import EnhancementGAN, options
from ganse_tf.schedule import ReplayBuffer, lessons, run_epochs, variations

STFT = dict(n_fft=512, hop_length=256, window="hamming")  # section 5.1 and authors' code
BINS = 257
LSTM_UNITS, DENSE_UNITS = 200, 300  # section 5.1
MASK_FLOOR, LEAK = 0.05, 0.3  # section 5.1; LeakyReLU, Keras' default of the time
D_FILTERS, D_KERNELS = (15, 25, 40, 50), (5, 7, 9, 11)  # section 5.1
PLUS_FILTERS, PLUS_KERNELS = (15, 15, 15, 15), (5, 5, 5, 5)  # MetricGAN+, section 2.1
LEARNING_RATE, PLUS_LEARNING_RATE, UTTERANCES = 1e-3, 5e-4, 100  # of Adam; per epoch; authors' codes
COMPRESSION, MEL_BANDS = 0.3, 64  # ours: exponent of the magnitudes in the regression loss; bands of d_input="loudness"


def build_generator(plus=False, lstm_units=LSTM_UNITS, dense_units=DENSE_UNITS):
    """Features (B, T, 257) -> mask (B, T, 257) in [0.05, 1], or [0.05, 1.2] with the learnable sigmoid of MetricGAN+."""
    features = keras.Input((None, BINS), name="features")
    x = layers.FastBLSTM(lstm_units, name="blstm1")(features)  # (B, T, 400)
    x = layers.FastBLSTM(lstm_units, name="blstm2")(x)  # (B, T, 400)
    x = keras.layers.Dense(dense_units, name="dense")(x)  # (B, T, 300)
    x = keras.layers.LeakyReLU(negative_slope=LEAK, name="leaky")(x)
    x = keras.layers.Dense(BINS, name="mask_logits")(x)  # (B, T, 257)
    sigmoid = layers.LearnableSigmoid(name="sigmoid") if plus else keras.layers.Activation("sigmoid", name="sigmoid")
    mask = keras.ops.maximum(sigmoid(x), MASK_FLOOR)
    return keras.Model(features, mask, name="generator")


def build_discriminator(filters=D_FILTERS, kernels=D_KERNELS, strides=(1, 1, 1, 1), loudness=False):
    """Two spectrograms (B, T, 257, 2), candidate and clean, or `loudness` (B, T, 64, 3) -> predicted score (B, 1), linear."""
    x = pair = keras.Input((None, MEL_BANDS, 3) if loudness else (None, BINS, 2), name="candidate_and_clean")
    if not loudness:
        x = keras.layers.GroupNormalization(groups=-1, name="norm")(pair)  # per utterance and channel: batch norm at batch 1
    for i, (width, size, stride) in enumerate(zip(filters, kernels, strides)):
        x = layers.SpectralNormConv2D(width, size, strides=stride, padding="valid", name=f"conv{i}")(x)  # (B, T-4, 253, 15)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)  # (B, 50): any length becomes one vector
    for i, width in enumerate((50, 10)):
        x = layers.SpectralNormDense(width, name=f"dense{i}")(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"dense{i}_leaky")(x)
    score = layers.SpectralNormDense(1, dtype="float32", name="score")(x)
    return keras.Model(pair, score, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class MetricGAN(EnhancementGAN):
    """MetricGAN with the paper's sizes (G 1,892,057, D 345,330 parameters); `MetricGAN.plus()` for MetricGAN+.

    Args:
        metric: "pesq_wb", "pesq_nb", "stoi", "estoi", or any function ``f(clean, enhanced, sample_rate) -> float in [0, 1]``,
            called on NumPy arrays and never differentiated. NaN means "not scored": the utterance is left out.
        target: s of eq. 5, the score G aims at, in [0, 1].
        feature: "log1p" (VoiceBank experiments) or "magnitude" (TIMIT experiments); mask and D work on it.
        normalise: G's input, per utterance and bin. learnable_sigmoid, noisy_term: MetricGAN+'s mask and third term of L_D.
        d_filters, d_kernels, d_strides: D's convolutions (paper: stride 1).
        d_input: "spectra", two spectrograms as in the paper, or "loudness". resynth: of STFT(iSTFT(.)) of G's output.
        d_batch, d_first_epochs: utterances per step of D (paper: 1); epochs at the start in which only D learns.
        explore: random variants of G's masks that D learns to score in each epoch, per utterance (paper: 0).
        lstm_units, dense_units: G's sizes.
        history_portion, history_size: share of the replay buffer seen again each epoch (MetricGAN+: 0.2); most batches in it.
        d_passes: 3 = new, old and new, new again (MetricGAN's code); 2 = new, old (Algorithm 1 of MetricGAN+).
        l2_weight, learning_rate: weight of the regression term in G's loss (paper: 0); rate of both Adams.
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = MetricGAN.tiny(metric="stoi")
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=1), epochs=20)
    """

    paper = "Fu, Liao, Tsao, Lin 2019: MetricGAN"
    url = "https://arxiv.org/abs/1905.04874"
    domain = "STFT magnitude mask"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l2", "d_clean", "metric", "surrogate_error")
    choices = dict(feature=("log1p", "magnitude"), d_input=("spectra", "loudness"))

    def __init__(
        self, metric="pesq_wb", target=1.0, feature="log1p", normalise=True, learnable_sigmoid=False, noisy_term=False,
        d_filters=D_FILTERS, d_kernels=D_KERNELS, d_strides=(1, 1, 1, 1), d_input="spectra", d_batch=1, d_first_epochs=0,
        explore=0, lstm_units=LSTM_UNITS, dense_units=DENSE_UNITS, history_portion=0.1, history_size=10_000, d_passes=3,
        resynth=True, l2_weight=0.0, learning_rate=LEARNING_RATE, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if not 0.0 <= target <= 1.0:
            raise ValueError(f"target is {target}; scores are normalised, so give a number in [0, 1].")
        self.metric, self.target, self.feature, self.normalise = metrics.normalised(metric), target, feature, normalise
        self.noisy_term, self.history_portion, self.resynth = noisy_term, history_portion, resynth
        self.l2_weight, self.learning_rate, self.d_passes = l2_weight, learning_rate, d_passes
        self.replay = ReplayBuffer(history_size)
        self.d_input, self.d_batch, self.d_first_epochs, self.explore = d_input, d_batch, d_first_epochs, int(explore)
        self.min_frames = 1  # 29 in the paper's D: shorter spectrograms vanish in its valid convolutions
        for size, stride in zip(reversed(d_kernels), reversed(d_strides)):
            self.min_frames = (self.min_frames - 1) * stride + size
        self.generator = build_generator(learnable_sigmoid, lstm_units, dense_units)
        self.discriminator = build_discriminator(d_filters, d_kernels, d_strides, d_input == "loudness")

    @classmethod
    def plus(cls, **kwargs):
        """MetricGAN+: learnable sigmoid, noisy speech in L_D, 20 % replay, no input normalisation, a smaller D."""
        plus = dict(learnable_sigmoid=True, noisy_term=True, history_portion=0.2, d_passes=2, normalise=False,
                    d_filters=PLUS_FILTERS, d_kernels=PLUS_KERNELS, learning_rate=PLUS_LEARNING_RATE)  # fmt: skip
        return cls(**{**plus, **kwargs})

    @classmethod
    def tiny(cls, **kwargs):
        """MetricGAN+, thinner, with a cheaper D that sees more, and a regression term so that G survives D's first errors."""
        thin = dict(lstm_units=64, dense_units=96, d_input="loudness", d_strides=(2, 2, 1, 1), d_batch=2, d_first_epochs=2,
                    explore=1, history_portion=0.5, l2_weight=0.5)  # fmt: skip
        return cls.plus(**{**thin, **kwargs})

    def default_optimizers(self):
        """Adam(1e-3) for both in the authors' code, 5e-4 with clipped gradients in the MetricGAN+ recipe."""
        return tuple(optimizers.FusedAdam(self.learning_rate, clipnorm=5.0) for _ in "GD")

    def spectrum(self, wav):
        """(B, n) -> complex (B, T, 257)."""
        return signal.stft(wav, **STFT)

    def to_feature(self, mag):
        """What G masks and D sees: |X| or log(1 + |X|), (B, T, 257)."""
        return tf.math.log1p(mag) if self.feature == "log1p" else mag

    def enhance_batch(self, noisy, grid=None):
        """(B, n) noisy -> enhanced magnitude (B, T, 257) and waveform (B, n), noisy phase; `grid` (B, 4, 8): `variations`."""
        spec = self.spectrum(noisy)
        feature = self.to_feature(signal.magnitude(spec))
        x = feature
        if self.normalise:
            mean, variance = tf.nn.moments(feature, axes=[1], keepdims=True)
            x = (feature - mean) / tf.maximum(tf.sqrt(variance), 1e-5)
        mask = tf.cast(self.generator(x, training=True), tf.float32)
        if grid is not None:
            mask = tf.pow(mask, 2.0 ** tf.image.resize(grid[..., None], tf.shape(mask)[1:], "bicubic")[..., 0])
        feature *= mask
        mag = tf.math.expm1(feature) if self.feature == "log1p" else feature
        wav = signal.istft(signal.with_phase_of(mag, spec), tf.shape(noisy)[1], **STFT)
        return mag, wav

    def view(self, candidate, clean):
        """What D sees of two magnitudes (B, T, 257): (B, T, 257, 2); "loudness": (B, T, 64, 3), the third their difference."""
        if self.d_input == "spectra":
            return tf.stack([self.to_feature(candidate), self.to_feature(clean)], axis=-1)
        heard = [signal.mel_loudness(mag, MEL_BANDS, self.sample_rate) for mag in (candidate, clean)]  # (B, T, 64)
        return tf.stack([heard[0] - 1.0, heard[1] - 1.0, 4.0 * (heard[0] - heard[1])], axis=-1)

    def judge(self, candidate, clean, is_mag=False):
        """D's prediction (B,) for a candidate, given as (B, n) waveform or as its (B, T, 257) magnitude."""
        mag = candidate if is_mag else signal.magnitude(self.spectrum(candidate))
        return self.discriminator(self.view(mag, signal.magnitude(self.spectrum(clean))), training=True)[:, 0]

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, predictions, scores):
        """Eq. 4: D's squared errors, summed over kinds of speech (clean, enhanced, noisy), averaged over utterances."""
        return tf.add_n([tf.reduce_mean(tf.square(p - q)) for p, q in zip(predictions, scores)])

    def generator_loss(self, clean, mag, d_fake=None):
        """Eq. 5 (and, if asked for, the regression term): the total and its terms."""
        target = tf.pow(signal.magnitude(self.spectrum(clean)) + 1e-6, COMPRESSION)
        g_l2 = losses.l2(target, tf.pow(mag + 1e-6, COMPRESSION))
        g_adv = tf.zeros_like(g_l2) if d_fake is None else losses.least_squares(d_fake, self.target)
        l2_weight = self.l2_weight if self.adversarial_weight else 1.0
        return self.adversarial_weight * g_adv + l2_weight * g_l2, {"g_adv": g_adv, "g_l2": g_l2}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Enhance. 2. Score. 3. D learns the scores of clean, enhanced (and noisy) speech. 4. G climbs D. No replay."""
        noisy, clean = data[:2]  # (B, n) waveforms
        report = {}
        if self.adversarial_weight:
            _, enhanced = self.enhance_batch(noisy)
            kinds = [clean, enhanced, noisy] if self.noisy_term else [clean, enhanced]
            scores = [tf.ones(tf.shape(clean)[0]), *(self.score_in_graph(clean, wav) for wav in kinds[1:])]
            layers.power_iteration(self.discriminator)
            with tf.GradientTape() as d_tape:
                predictions = [self.judge(tf.stop_gradient(wav), clean) for wav in kinds]  # (B,) each
                d_loss = self.discriminator_loss(predictions, scores)
            d_norm = self.minimise(d_tape, d_loss, "discriminator")
            report = dict(d_loss=d_loss, d_clean=tf.reduce_mean(predictions[0]), d_fake=tf.reduce_mean(predictions[1]),
                          metric=tf.reduce_mean(scores[1]), d_grad_norm=d_norm)  # fmt: skip
        return self.log_step(**report, **self.update_g(noisy, clean))

    def update_d(self, candidate, clean, score):
        """One step of D on one batch: predict `score` (B,) of `candidate` (B, n)."""
        layers.power_iteration(self.discriminator)
        with tf.GradientTape() as tape:
            prediction = self.judge(candidate, clean)
            d_loss = self.discriminator_loss([prediction], [score])
        d_norm = self.minimise(tape, d_loss, "discriminator")
        return dict(d_loss=d_loss, d_grad_norm=d_norm, surrogate_error=tf.reduce_mean(tf.abs(prediction - score)))

    def update_g(self, noisy, clean):
        """One step of G: eq. 5 through D, which stays as it is."""
        with tf.GradientTape() as tape:
            mag, wav = self.enhance_batch(noisy)
            d_fake = None
            if self.adversarial_weight:
                d_fake = self.judge(wav, clean) if self.resynth else self.judge(mag, clean, is_mag=True)
            g_loss, terms = self.generator_loss(clean, mag, d_fake)
        return dict(g_loss=g_loss, g_grad_norm=self.minimise(tape, g_loss, "generator"), **terms)

    def fit_epoch(self, epoch, batches, report):
        """The outer schedule: score, D on the new, D on old and new, D on the new again, then G."""
        if self.adversarial_weight:
            rng = np.random.default_rng((self.seed, int(self.step)))
            current, enhanced_entries = [], []
            for noisy, clean in batches:  # 1. G enhances, the metric scores; clean speech is a 1 by definition
                enhanced = self.graph("enhance_batch")(noisy, np.zeros((len(noisy), 1, 1), np.float32))[1].numpy()
                current.append((clean, clean, np.ones(len(clean), np.float32)))
                enhanced_entries.append((enhanced, clean, self.score(clean, enhanced)))
                report(metric=np.mean(np.nan_to_num(enhanced_entries[-1][2])))
                for _ in range(self.explore):
                    variant = self.graph("enhance_batch")(noisy, variations(len(noisy), rng))[1].numpy()
                    enhanced_entries.append((variant, clean, self.score(clean, variant)))
                if self.noisy_term:
                    current.append((noisy, clean, self.score(clean, noisy)))
            current += enhanced_entries
            past = self.replay.sample(self.history_portion, rng)
            for entries in (current, past) if self.d_passes == 2 else (current, past + current, current):
                for candidate, clean, score in lessons(entries, self.d_batch, rng):  # 2. D learns to predict the scores
                    report(**self.graph("update_d")(candidate, clean, score))
            self.replay.extend(enhanced_entries)
        only_d = self.adversarial_weight and epoch < self.d_first_epochs
        for noisy, clean in () if only_d else batches:  # 3. G climbs what D has learnt
            report(**self.graph("update_g")(noisy, clean))
        self.step.assign_add(len(batches))

    def fit(self, x=None, epochs=1, utterances=UTTERANCES, callbacks=None, backup_dir=None, initial_epoch=0, verbose="auto",
            validation_data=None):  # fmt: skip
        """Train by the outer schedule (`fit_epoch`), progress bar, callbacks and resume as in Keras: `epochs` (paper: 200, 600)
        of `utterances` batches (paper: 100) of `x`, from ``ganse_tf.data.examples(pairs, model, batch_size=1)``. The replay
        buffer is kept beside `backup_dir` and comes back too. The regression error of `validation_data` is logged as val_g_l2.
        """
        return run_epochs(self, x, epochs, utterances, callbacks, backup_dir, initial_epoch, verbose, validation_data)

    def graph(self, name):
        """The method `name` as a TensorFlow graph for any batch of waveforms, traced once."""
        if name not in self._trackers.graphs:
            scores, waves, grid = (tf.TensorSpec([None] * rank, tf.float32) for rank in (1, 2, 3))
            inputs = dict(enhance_batch=[waves, grid], update_d=[waves, waves, scores], update_g=[waves, waves])
            self._trackers.graphs[name] = tf.function(getattr(self, name), input_signature=inputs[name])
        return self._trackers.graphs[name]

    def test_step(self, data):
        noisy, clean = data[:2]
        mag, _ = self.enhance_batch(noisy)
        return self.log(g_l2=self.generator_loss(clean, mag)[1]["g_l2"])

    def preprocess(self, noisy, clean):
        """(n,) pair -> one example, the utterance itself (1, n); none if it is too short for D (29 frames, 0.43 s)."""
        enough = tf.cast(tf.shape(noisy)[0] >= (self.min_frames - 1) * STFT["hop_length"], tf.int32)
        return noisy[None][:enough], clean[None][:enough]

    def enhance_segment(self, noisy):
        """(n,) -> (n,)."""
        return self.enhance_batch(noisy[None])[1][0]

    def score(self, clean, candidate):
        """Q' in [0, 1] of each utterance of a NumPy batch (B, n), NaN where the metric fails."""
        return metrics.batch_scores(self.metric, clean, candidate, self.sample_rate)

    def score_in_graph(self, clean, candidate):
        """`score` as a graph node without gradient; a failed utterance counts as 0.5."""
        score = tf.numpy_function(lambda *pair: np.nan_to_num(self.score(*pair), nan=0.5), [clean, candidate], tf.float32)
        return tf.ensure_shape(tf.stop_gradient(score), [None])
