r"""AFM: Adversarial Feature-Mapping for Speech Enhancement.

Z. Meng, J. Li, Y. Gong, B.-H. Juang, Interspeech 2018
https://arxiv.org/abs/1809.02251
29 log-mel filterbank energies with two differences (87) of noisy speech in, the 29 energies of clean speech out.

The idea: features for a recogniser, not for the ear.  A recurrent network F maps noisy frames x_i to clean ones y_i.
Squared error alone (FM) blurs; so a discriminator D judges single mapped frames, and F learns to deceive it.  F and D
are not trained in turns but in *one* backward pass: between them stands a gradient reversal, which passes the mapped
frame on unchanged and multiplies its gradient by -lambda.  SA-AFM adds a senone (acoustic) model M behind the same F.

    L_F = 1/T sum_i |F(x_i) - y_i|^2                                             (eq. 3)
    L_D = -1/T sum_i [log D(y_i) + log(1 - D(F(x_i)))]                           (eq. 6, with a minus)
    L_M = -1/T sum_i log M(s_i | F(x_i))                                         (eq. 14)
    theta_F <- theta_F - mu d(L_F - lambda L_D + lambda_2 L_M)/d theta_F         (eqs. 7 to 11 and 15 to 18)
    theta_D <- theta_D - mu d L_D/d theta_D,    theta_M <- theta_M - mu d L_M/d theta_M

Behind the scales -lambda and lambda_2 the plain sum L_F + L_D + L_M has exactly these gradients.  Training has stages:
FM (`adversarial_weight=0`), then AFM from FM's F and a new D; a senone model M on clean and noisy features; then SA-AFM
from AFM's F and D and that M.

Differs from the paper
- Eq. 6 is printed without its minus; minimised as printed, D would learn to be wrong -> cross-entropy. Eq. 10 is reused
  for SA-AFM without the term lambda_2 L_M, which alone makes F aware of senones -> added.
- "LSTM with projection": linear layer behind the LSTM, or an LSTM whose projection feeds back? -> the former (3.07 M
  weights); `recurrent="feedback"` is the latter (2.02 M). Effect: not measured.
- SGD with rate 5e-7 and momentum 0.5, most likely per frame: `optimizer="sgd_paper"` sums over frames instead of taking
  the mean. Default: Adam 1e-3, gradient norm clipped to 5, quicker by orders of magnitude on small data.
- Squared norm in eq. 3: sum over 29 dimensions, mean over frames that are not padding. A mean over dimensions would make
  lambda 29 times as strong.
- Normalisation of targets: not given -> F computes with features of zero mean and unit variance (noisy for its input,
  clean for its output); L_F, D and M see features normalised by the clean statistics. They lie in two layers of F.
- Window 25 ms Hamming, hop 10 ms, HTK mel from 0 to 8 kHz, power spectrum, floor 1e-8, differences over +-2 frames: all
  ours. So are ReLU in D, batches of whole padded utterances, lambda_1 = lambda and lambda_2 = 1.
- lambda = 60 is the paper's, found with another rate and perhaps unnormalised targets; `tiny` takes 1. Measured with `tiny`
  on toy validation digits, 500 steps from an FM: senone error 36.2 % with lambda 0, 36.6 with 2 and 6, 41.0 with 20.
- Senones: 31 word states of digits in class, from known word boundaries; the paper has 3012 from forced alignment.
- Sound: the paper never makes any. `enhance` turns the mapped features into gains exp((y^ - x) / 2) per mel band, at most
  1, on the noisy STFT. It is a listening aid: 29 bands are too coarse to remove noise between the harmonics of a voice.
"""

import keras
import tensorflow as tf

from ganse_tf import data as sounds
from ganse_tf import layers, losses, optimizers, signal
from ganse_tf.base import SAMPLE_RATE, EnhancementGAN, options
from ganse_tf.downstream import senone
from ganse_tf.downstream.asr import pad

BANDS = senone.N_LFB  # 29, section 4.1
UNITS, PROJECTION = 512, 256  # of the two recurrent layers of F, section 4.1
D_UNITS = 512  # two hidden layers in D, section 4.2
M_LAYERS, M_UNITS, M_PROJECTION, N_SENONES = 4, 1024, 512, 3012  # section 4.3
ADVERSARIAL_WEIGHT = 60.0  # lambda, section 4.2
TINY_ADVERSARIAL_WEIGHT = 1.0  # see "Differs from the paper"
SENONE_WEIGHT = 1.0  # lambda_2, ours
LEARNING_RATE, CLIP_NORM = 1e-3, 5.0  # Adam, ours
SGD_RATE, SGD_MOMENTUM = 5e-7, 0.5  # section 4.2
STFT = dict(n_fft=512, hop_length=160, win_length=400, window="hamming")  # the frames of senone.lfb, centred
MEL = dict(n_fft=512, sample_rate=SAMPLE_RATE, fmin=0.0, fmax=None)
FLOOR = 1e-8  # power, as in senone.lfb
STRETCH = 100  # frames, 1 s: length of a training example of `examples`


def feedback_lstm(units, projection):
    """The other reading of "projection": the projected output also feeds back."""
    return keras.layers.RNN(layers.ProjectedLSTMCell(units, projection), return_sequences=True)


RECURRENT = {"linear": senone.projected_lstm, "feedback": feedback_lstm}  # in M


def build_generator(units=UNITS, projection=PROJECTION, recurrent="linear"):
    """F: noisy energies with differences (B, T, 87) -> clean energies (B, T, 29); natural logarithms, not normalised."""
    noisy = keras.Input((None, 3 * BANDS), name="noisy")  # (B, T, 87)
    x = layers.Standardise(name="noisy_statistics")(noisy)
    for i in (1, 2):
        if recurrent == "feedback":
            x = feedback_lstm(units, projection)(x)  # (B, T, 256)
        else:
            x = layers.FastLSTM(units, return_sequences=True, name=f"lstm{i}")(x)  # (B, T, 512)
            x = keras.layers.Dense(projection, name=f"projection{i}")(x)  # (B, T, 256)
    x = keras.layers.Dense(BANDS, dtype="float32", name="mapped")(x)  # (B, T, 29), normalised
    return keras.Model(noisy, layers.Standardise(inverse=True, name="clean_statistics")(x), name="generator")


def build_discriminator(units=D_UNITS):
    """D: single normalised frames (B, T, 29), clean or mapped -> logits (B, T, 1); every frame on its own."""
    x = frames = keras.Input((None, BANDS), name="frames")
    for _ in range(2):
        x = keras.layers.Dense(units, activation="relu")(x)  # (B, T, 512)
    logit = keras.layers.Dense(1, dtype="float32", name="logit")(x)  # (B, T, 1); its sigmoid is in the loss
    return keras.Model(frames, logit, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class AFM(EnhancementGAN):
    """AFM with the paper's sizes: F 3,073,821, D 278,529 parameters; `AFM.tiny()` for class.

    Args:
        units, projection: of F's two recurrent layers (paper: 512, 256).
        recurrent: "linear" (LSTM, then a linear layer) or "feedback" (the projected output feeds back).
        d_units: of D's two hidden layers (paper: 512).
        senone_aware: True adds the senone model M: SA-AFM, or SA-FM with `adversarial_weight=0`. Its batches come from
            `examples`, with senone labels.
        n_senones, m_layers, m_units, m_projection: of M (paper: 3012, 4, 1024, 512: 26.8 million weights).
        senone_weight: lambda_2 (paper: not given).
        optimizer: "adam", or "sgd_paper" for the paper's rate and momentum on losses summed over frames.
        adversarial_weight: lambda (paper: 60); 0 is FM, plain feature mapping without D.
        seed: see `EnhancementGAN`; the model itself draws nothing.

    Example:
        >>> fm = AFM.tiny(adversarial_weight=0)
        >>> fm.compile()
        >>> history = fm.fit(fm.examples(pairs), epochs=20)  # or ganse_tf.data.examples(mixer, fm, crop_seconds=2.0)
        >>> afm = AFM.tiny()
        >>> afm.generator.set_weights(fm.generator.get_weights())  # also brings the statistics
    """

    paper = "Meng, Li, Gong, Juang 2018: Adversarial feature-mapping for speech enhancement"
    url = "https://arxiv.org/abs/1809.02251"
    domain = "log-mel filterbank"
    outputs = "features"
    padded, deviation_floor = True, 1e-3
    logs = (*EnhancementGAN.logs, "g_l2", "m_loss", "senone_error")
    choices = dict(recurrent=tuple(RECURRENT), optimizer=("adam", "sgd_paper"))

    def __init__(
        self, units=UNITS, projection=PROJECTION, recurrent="linear", d_units=D_UNITS, senone_aware=False,
        n_senones=N_SENONES, m_layers=M_LAYERS, m_units=M_UNITS, m_projection=M_PROJECTION, senone_weight=SENONE_WEIGHT,
        optimizer="adam", adversarial_weight=ADVERSARIAL_WEIGHT, **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), adversarial_weight=adversarial_weight, **kwargs)
        self.senone_aware, self.senone_weight = senone_aware, senone_weight
        self.per_frame = optimizer == "sgd_paper"
        self.generator = build_generator(units, projection, recurrent)
        self.discriminator = build_discriminator(d_units)
        self.reversal = layers.GradientScale(-self.adversarial_weight, name="reversal")
        if senone_aware:
            sizes = n_senones, BANDS, m_layers, m_units, m_projection, RECURRENT[recurrent]
            self.acoustic_model = senone.build_acoustic_model(*sizes)
            self.to_acoustic_model = layers.GradientScale(senone_weight, name="to_acoustic_model")

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks for a laptop: F 2 x 64 (projection 32), D 2 x 64, M 2 x 96 (48), 31 senones, lambda 1."""
        sizes = dict(units=64, projection=32, d_units=64, n_senones=senone.N_SENONES, m_layers=2, m_units=96, m_projection=48)
        return cls(**{**sizes, "adversarial_weight": TINY_ADVERSARIAL_WEIGHT, **kwargs})

    def default_optimizers(self):
        """Adam(1e-3) for both, or the paper's SGD(5e-7) with momentum 0.5."""
        if self.per_frame:
            return tuple(keras.optimizers.SGD(SGD_RATE, SGD_MOMENTUM) for _ in "GD")
        return tuple(optimizers.FusedAdam(LEARNING_RATE, global_clipnorm=CLIP_NORM) for _ in "GD")

    def network_variables(self, network):
        """As in the base; M, which works with F and not against it, is moved by F's optimiser."""
        found = getattr(self, network).trainable_variables
        return found + self.acoustic_model.trainable_variables if network == "generator" and self.senone_aware else found

    # ---- losses ------------------------------------------------------------------------------------------------------

    def mapping_loss(self, clean, mapped, mask):
        """L_F, eq. 3: sum over bands, mean over the frames under `mask`."""
        return BANDS * losses.l2(clean, mapped, mask)

    def discriminator_loss(self, d_real, d_fake, mask):
        """L_D, eq. 6 with a minus, from logits."""
        return losses.cross_entropy(d_real, 1.0, mask) + losses.cross_entropy(d_fake, 0.0, mask)

    def generator_loss(self, g_l2, d_loss=0.0, m_loss=0.0):
        """What F minimises: L_F - lambda L_D + lambda_2 L_M."""
        return g_l2 - self.adversarial_weight * d_loss + self.senone_weight * m_loss

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. F maps. 2. D and M look at the mapped frames through the gradient scales. 3. One backward pass for all."""
        noisy, clean, mask = data[:3]  # (B, T, 87), (B, T, 29), (B, T) with 0 in the padding
        clean, report = self.normalise(clean), {}
        with tf.GradientTape() as tape:
            mapped = self.normalise(self.generator(noisy, training=True))  # (B, T, 29)
            total = g_l2 = self.mapping_loss(clean, mapped, mask)
            if self.adversarial_weight:
                d_real = self.discriminator(clean, training=True)  # (B, T, 1)
                d_fake = self.discriminator(self.reversal(mapped), training=True)  # backwards: times -lambda
                d_loss = self.discriminator_loss(d_real, d_fake, mask)
                total += d_loss
                report = dict(d_loss=d_loss, d_real=losses.mean(d_real, mask), d_fake=losses.mean(d_fake, mask))
            if self.senone_aware:
                labels = self.labels_of(data)  # (B, T), -1 in the padding
                logits = self.acoustic_model(self.to_acoustic_model(mapped), training=True)  # backwards: times lambda_2
                m_loss = senone.cross_entropy(labels, logits)
                total += m_loss
                wrong = tf.cast(tf.argmax(logits, -1, tf.int32) != labels, tf.float32)
                report |= dict(m_loss=m_loss, senone_error=losses.mean(wrong[..., None], mask))
            if self.per_frame:
                total *= tf.reduce_sum(mask)
        report |= self.minimise_together(tape, total)
        g_loss = self.generator_loss(g_l2, report.get("d_loss", 0.0), report.get("m_loss", 0.0))
        return self.log_step(**report, g_loss=g_loss, g_l2=g_l2)

    def minimise_together(self, tape, loss):
        """One backward pass; then each optimiser moves its own network. Returns the gradient norms for the log."""
        networks = ("generator", "discriminator") if self.adversarial_weight else ("generator",)
        variables = [self.network_variables(network) for network in networks]
        one = tf.ones_like(loss) / tf.distribute.get_strategy().num_replicas_in_sync
        chosen = (self.optimizer, self.d_optimizer)
        scales = [o.scale_loss(one) if hasattr(o, "inner_optimizer") else one for o in chosen]  # mixed precision
        gradients = tape.gradient(loss, variables, output_gradients=scales[0])
        norms = {}
        for i, (name, optimizer) in enumerate(zip(("g_grad_norm", "d_grad_norm"), chosen[: len(networks)])):
            found = [g * (scales[i] / scales[0]) for g in gradients[i]] if i else gradients[i]
            optimizer.apply(found, variables[i])
            norms[name] = tf.linalg.global_norm(found) / scales[i]
        return norms

    def labels_of(self, data):
        """The senone labels of a batch, its fourth part."""
        if len(data) < 4 or data[3] is None:
            raise ValueError(f"senone_aware=True needs senone labels, but the batch has {len(data)} parts, not (noisy, clean, "
                             "mask, labels). Train on model.examples(pairs) with pairs that know their words.")  # fmt: skip
        return tf.cast(data[3], tf.int32)

    def test_step(self, data):
        noisy, clean, mask = data[:3]
        return self.log(g_l2=self.mapping_loss(self.normalise(clean), self.normalise(self.generator(noisy)), mask))

    # ---- features ----------------------------------------------------------------------------------------------------

    def normalise(self, features):
        """Energies (..., 29) -> zero mean and unit variance of the clean training set: what L_F, D and M see."""
        statistics = self.generator.get_layer("clean_statistics")
        return (tf.cast(features, tf.float32) - statistics.mean) / statistics.std

    @property
    def std(self):
        """Deviations of the clean energies, (29,): kept inside F, like all statistics of AFM."""
        return self.generator.get_layer("clean_statistics").std

    def statistics_rows(self, noisy, clean, mask, *_):
        """Noisy features and clean energies of the frames under the mask, side by side: (rows, 87 + 29)."""
        return tf.boolean_mask(tf.concat([noisy, clean], -1), mask > 0)

    def set_statistics(self, mean, std):
        for name, part in (("noisy_statistics", slice(None, -BANDS)), ("clean_statistics", slice(-BANDS, None))):
            self.generator.get_layer(name).set_weights([mean[part], std[part]])

    def map_features(self, noisy):
        """(n,) noisy waveform, n >= 400 -> mapped energies, float32 (T, 29): what a recogniser gets."""
        return self.generator(senone.add_deltas(senone.lfb(noisy, self.sample_rate))[None], training=False)[0]

    def preprocess(self, noisy, clean):
        """(n,) pair -> noisy energies with differences (1, T, 87), clean ones (1, T, 29), mask (1, T); none below 25 ms."""
        noisy, clean = (senone.lfb(wav, self.sample_rate) for wav in (noisy, clean))
        noisy = senone.add_deltas(noisy)
        utterances = tf.minimum(tf.shape(noisy)[0], 1)
        return tuple(x[None][:utterances] for x in (noisy, clean, tf.ones_like(clean[:, 0])))

    def examples(self, pairs, batch_size=64, frames=STRETCH, shuffle=True, seed=0):
        """Like `data.examples`, quicker for small corpora and with senone labels: features are made once and kept.

        Args:
            pairs: whatever `data.pairs` takes; with `senone_aware`, those that know their `words`, as from `data.toy_pairs`.
            batch_size: stretches of `frames` frames (10 ms each; None: whole utterances): many short ones are quicker.
            shuffle: a new order in every epoch, drawn from `seed` and the model's step counter.

        Returns:
            tf.data.Dataset of (noisy, clean, mask), with `senone_aware` also labels (B, T), -1 in the padding.

        Raises:
            ValueError: `senone_aware`, and no pair knows its words.
        """
        pairs = [pair for pair in sounds.pairs(pairs) if pair.words or not self.senone_aware]
        if not pairs:
            raise ValueError("No pair has word boundaries (`words`); take the digit strings of data.toy_pairs().")
        columns = [[], [], [], []]
        for pair in pairs:
            parts = [x[0].numpy() for x in self.preprocess(*pair.load()[:2])]
            if self.senone_aware:
                parts.append(senone.alignments(pair, len(parts[0])) - senone.IGNORE)  # padded with 0
            length = frames or len(parts[0])
            for column, part in zip(columns, parts):
                column += [part[i : i + length] for i in range(0, len(part), length)]
        columns = [pad(column)[0] for column in columns if column]
        if self.senone_aware:
            columns[3] += senone.IGNORE
        return sounds.from_memory(columns, self, batch_size, shuffle, seed)

    # ---- sound -------------------------------------------------------------------------------------------------------

    def enhance_segment(self, noisy):
        """(n,) -> (n,): gains exp((y^ - x) / 2), from log power to magnitude, spread over the bins of the noisy STFT."""
        spec = signal.stft(noisy, **STFT)  # (T, 257)
        power = tf.square(signal.magnitude(spec)) @ signal.mel_matrix(BANDS, **MEL)
        static = tf.math.log(tf.maximum(power, FLOOR))  # (T, 29): as senone.lfb, frames centred on multiples of the hop
        mapped = self.generator(senone.add_deltas(static)[None], training=False)[0]
        gain = signal.mel_gain_to_bins(tf.exp(0.5 * tf.minimum(mapped - static, 0.0)), **MEL)  # (T, 257)
        return signal.istft(tf.cast(gain, tf.complex64) * spec, tf.shape(noisy)[0], **STFT)
