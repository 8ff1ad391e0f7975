r"""GAN postfilter: Generative Adversarial Network-based Postfilter for STFT Spectrograms.

T. Kaneko, S. Takaki, H. Kameoka, J. Yamagishi, Interspeech 2017, pp. 3389-3393
Log amplitude of over-smoothed (synthetic) speech in, log amplitude of natural speech out.

The idea: a statistical synthesiser predicts averages, so its spectra are too smooth and sound muffled.  This is not noise,
and a regression would only average again.  G therefore gets noise z to make texture from, and adds what is missing:

    G(z, y) = y + R(z, y)                                      y over-smoothed, x natural, both normalised
    min_G max_D  E[log D(x, y)] + E[log(1 - D(G(z, y), y))]                                              (eq. 2)

A spectrogram of 1024 bins is too much for one GAN: it is cut into four overlapping bands with one G and one D each, and
the results are joined with the halves of a Hamming window, which add up to one.  No L1 term: it would smooth again.

Differs from the paper (read in part: its Table 1, Fig. 2, eq. 2 and abstract; the rest from reports about it)
- Speech: the paper's came from a neural synthesiser. Ours is natural speech, over-smoothed (`ganse_tf.oversmooth`).
- STFT and rate: not found -> 16 kHz, 25 ms Hann window, hop 5 ms, FFT of 2048 without its last bin. Not measured.
- Amplitude: natural logarithm, floor 1e-5. Mean and deviation per bin from natural speech, for x and for y: with y's own
  ones the variance would come back by scaling alone.
- Overlap: the bands share 64 bins; the halves of a Hamming window add up to 1.08, so we divide by that.
- "+ input spectrogram" in Table 1: joined as a channel, not added. Not measured.
- D sees the pair of eq. 2; Table 1 lists one spectrogram: `conditional_d=False`. Not measured.
- D works on `crop` frames, the same of x, y and G(z, y); their number is not given -> 128. Slope of leaky ReLU -> 0.2.
- G minimises -log D, which has a gradient where D is sure, in place of log(1 - D).
- z ~ N(0, 1), as one more channel; the bands share it where they overlap. G's last layer starts at zero: G(z, y) = y.
- Optimiser: not found -> Adam(1e-4, beta_1 = 0.5) for both. The bands do not share a weight, so that one optimiser over
  four is the same as four optimisers.
- D's batch norm: statistics of real and of fake batches apart, no moving averages (D is not used after training).
- Phase: of the input, refined by rounds of Griffin and Lim's iteration (the synthesiser of the paper had no phase).
- `adversarial_weight=0` (ours) trains G by L1 alone.
"""

import keras
import numpy as np
import tensorflow as tf

from ganse_tf import losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

BANDS = ((1, 320), (257, 576), (513, 832), (769, 1024))  # first and last bin, counted from 1
N_FFT, WIN_LENGTH, HOP_LENGTH = 2048, 400, 80  # samples at 16 kHz; our choice
FLOOR = 1e-5  # of amplitudes, our choice
STD_FLOOR = 1e-2  # of the deviation of a bin
G_FILTERS = (128, 256, 128)  # Table 1
D_FILTERS = (64, 128, 256, 512)  # Table 1
KERNEL = 5  # Table 1
LEAK = 0.2  # our choice
FRAMES, CROP = 256, 128  # frames per example and frames that D sees, our choice
LEARNING_RATE, BETA_1 = 1e-4, 0.5  # Adam, our choice
BN_EPSILON = 1e-5
INIT = 0.02  # standard deviation of D's first weights, as in DCGAN
HAMMING = (0.54, 0.46)
GRIFFIN_LIM = 8  # rounds in `enhance`, our choice


# ---- bands -----------------------------------------------------------------------------------------------------------


def partition(spec, bands=BANDS):
    """Cut (..., bins) into one piece per band, on axis 2 if `spec` is (B, T, bins, 1)."""
    return [spec[:, :, first - 1 : last] for first, last in bands]


def join_weights(bands=BANDS, normalise=True):
    """Weights of every band's bins: rising and falling halves of a Hamming window where bands overlap, 1 elsewhere.

    Args:
        bands: (first, last) bin of each, counted from 1.
        normalise: divide the halves by their sum, 1.08; False leaves a ridge of +8 % in every overlap.

    Returns:
        list of float32 arrays; over all bands they add up to 1 in every bin.

    Example:
        >>> [round(float(w[-1]), 4) for w in join_weights()]
        [0.0755, 0.0755, 0.0755, 1.0]
    """
    weights = [np.ones(last - first + 1) for first, last in bands]
    for i in range(len(bands) - 1):
        shared = bands[i][1] - bands[i + 1][0] + 1
        window = HAMMING[0] - HAMMING[1] * np.cos(np.pi * np.arange(2 * shared) / shared)  # periodic
        window = window / (2 * HAMMING[0]) if normalise else window
        weights[i][-shared:], weights[i + 1][:shared] = window[shared:], window[:shared]
    return [w.astype(np.float32) for w in weights]


def merge(pieces, bands=BANDS, normalise=True):
    """Cross-fade pieces (B, T, width, 1) into one spectrogram (B, T, bins, 1): `merge(partition(s))` is s."""
    total = bands[-1][1]
    weighted = zip(pieces, bands, join_weights(bands, normalise))
    return tf.add_n([
        tf.pad(piece * weight[:, None], [[0, 0], [0, 0], [first - 1, total - last], [0, 0]])
        for piece, (first, last), weight in weighted
    ])  # fmt: skip


# ---- networks --------------------------------------------------------------------------------------------------------


def build_generator(width, filters=G_FILTERS, kernel=KERNEL, name="generator"):
    """G of one band (Table 1): four convolutions that all see y; any number of frames."""
    y = keras.Input((None, width, 1), name="y")  # (B, T, F, 1)
    z = keras.Input((None, width, 1), name="z")
    x = z
    for i, channels in enumerate(filters):
        x = keras.layers.Concatenate(name=f"with_y{i}")([x, y])
        x = keras.layers.Conv2D(channels, kernel, padding="same", activation="relu", kernel_initializer="he_normal",
                                name=f"conv{i}")(x)  # (B, T, F, 128), 256, 128  # fmt: skip
    x = keras.layers.Concatenate(name="with_y")([x, y])
    residual = keras.layers.Conv2D(1, kernel, padding="same", kernel_initializer="zeros", dtype="float32",
                                   name="residual")(x)  # (B, T, F, 1)  # fmt: skip
    return keras.Model([y, z], keras.layers.Add(dtype="float32", name="y_plus_residual")([y, residual]), name=name)


def build_discriminator(width, crop=CROP, filters=D_FILTERS, kernel=KERNEL, conditional=True, name="discriminator"):
    """D of one band (Table 1): four halvings and one logit for `crop` frames."""
    inputs = [keras.Input((crop, width, 1), name="candidate")]
    x = inputs[0]  # (B, T, F, 1)
    if conditional:
        inputs.append(keras.Input((crop, width, 1), name="y"))
        x = keras.layers.Concatenate(name="pair")(inputs)  # (B, T, F, 2)
    for i, channels in enumerate(filters):
        init = keras.initializers.RandomNormal(stddev=INIT)
        x = keras.layers.Conv2D(channels, kernel, strides=2, padding="same", kernel_initializer=init, name=f"conv{i}")(x)
        if i:  # momentum 1: no moving averages
            x = keras.layers.BatchNormalization(momentum=1.0, epsilon=BN_EPSILON, name=f"bn{i}")(x)
        x = keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}")(x)  # (B, T/2, F/2, 64) ... (B, T/16, F/16, 512)
    x = keras.layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, keras.layers.Dense(1, dtype="float32", name="logit")(x), name=name)  # (B, 1)


def all_generators(bands, **sizes):
    """One G per band, side by side: y, z (B, T, bins, 1) -> list of (B, T, width, 1)."""
    y, z = (keras.Input((None, bands[-1][1], 1), name=name) for name in "yz")
    pieces = zip(partition(y, bands), partition(z, bands))
    outputs = [build_generator(p.shape[2], name=f"g{i}", **sizes)([p, q]) for i, (p, q) in enumerate(pieces)]
    return keras.Model([y, z], outputs, name="generators")


def all_discriminators(bands, crop, conditional, **sizes):
    """One D per band, side by side: [all candidates, then all y], (B, crop, width, 1) each -> logits (B, bands)."""
    widths = [last - first + 1 for first, last in bands]
    kinds = ("candidate", "y") if conditional else ("candidate",)
    inputs = [keras.Input((crop, width, 1), name=f"{kind}{i}") for kind in kinds for i, width in enumerate(widths)]
    logits = []
    for i, width in enumerate(widths):
        network = build_discriminator(width, crop, conditional=conditional, name=f"d{i}", **sizes)
        logits.append(network(inputs[i :: len(bands)]))  # candidate and, if conditional, y of this band
    return keras.Model(inputs, keras.layers.Concatenate(dtype="float32", name="logits")(logits), name="discriminators")


@keras.saving.register_keras_serializable(package="ganse_tf")
class GANPostfilter(EnhancementGAN):
    """The postfilter with the paper's sizes: four G of 1.66 M, four D of 4.4 M; `GANPostfilter.tiny()` for a laptop.

    It is no denoiser: train it on pairs of over-smoothed and natural speech (`ganse_tf.oversmooth.pairs`).

    Args:
        n_fft, win_length, hop_length: of the STFT, samples; the last bin of the FFT is left out.
        bands: (first, last) bin of each band, counted from 1; the last one ends at n_fft / 2.
        g_filters, d_filters: channels of the convolutions (Table 1).
        frames, crop: frames per training example; frames that D sees, at most `frames`.
        l1_weight: adds l1_weight * |G(z, y) - x| to G's loss. Paper: none (0).
        conditional_d: D sees (candidate, y); False: the candidate alone.
        griffin_lim: rounds of Griffin and Lim's iteration in `enhance`.
        adversarial_weight, seed: see `EnhancementGAN`; weight 0 trains G by L1 alone.

    Example:
        >>> model = GANPostfilter.tiny()
        >>> model.compile()
        >>> model.fit(data.examples(oversmooth.pairs(data.toy_corpus("train")), model, batch_size=8), epochs=5)
    """

    paper = "Kaneko, Takaki, Kameoka, Yamagishi 2017: GAN-based postfilter for STFT spectrograms"
    url = "https://www.kecl.ntt.co.jp/people/kaneko.takuhiro/projects/ganp_stft/index.html"
    domain = "STFT log amplitude, four bands"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1")
    window, overlap = 4 * EnhancementGAN.sample_rate, EnhancementGAN.sample_rate // 2  # samples, of enhance()

    def __init__(
        self, n_fft=N_FFT, win_length=WIN_LENGTH, hop_length=HOP_LENGTH, bands=BANDS, g_filters=G_FILTERS,
        d_filters=D_FILTERS, frames=FRAMES, crop=CROP, l1_weight=0.0, conditional_d=True, griffin_lim=GRIFFIN_LIM, **kwargs,
    ):  # fmt: skip
        bands = [tuple(int(k) for k in band) for band in bands]
        super().__init__(config=options(locals()), **kwargs)
        if crop > frames:
            raise ValueError(f"crop is {crop} and frames is {frames}; D cannot see more frames than an example has.")
        touching = all(low[0] < high[0] <= low[1] < high[1] for low, high in zip(bands, bands[1:]))
        if bands[0][0] != 1 or bands[-1][1] != n_fft // 2 or not touching:
            raise ValueError(f"bands are {bands}; they must start at bin 1, overlap, and end at n_fft / 2 = {n_fft // 2}.")
        self.grid = dict(n_fft=n_fft, hop_length=hop_length, win_length=win_length)
        self.bands, self.bins, self.frames, self.crop = bands, n_fft // 2, frames, crop
        self.l1_weight, self.griffin_lim = float(l1_weight), griffin_lim
        self.generator = all_generators(bands, filters=tuple(g_filters))
        self.discriminator = all_discriminators(bands, crop, conditional_d, filters=tuple(d_filters))
        self.add_statistics((self.bins,), STD_FLOOR)

    @classmethod
    def tiny(cls, **kwargs):
        """The same four bands on 256 bins with narrow layers, for two CPU cores."""
        sizes = dict(n_fft=512, bands=((1, 80), (65, 144), (129, 208), (193, 256)), g_filters=(16, 32, 16),
                     d_filters=(16, 32, 32, 64), frames=64, crop=48)  # fmt: skip
        return cls(**{**sizes, **kwargs})

    def default_optimizers(self):
        """Adam(1e-4, beta_1 = 0.5) for both (our choice)."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE, beta_1=BETA_1) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 2, D's side, mean over batch and bands; logits."""
        return losses.cross_entropy(d_real, 1.0) + losses.cross_entropy(d_fake, 0.0)

    def generator_loss(self, clean, enhanced, d_fake=None):
        """-log D(G(z, y), y), and L1 only where it is asked for or D is off; lists of bands. The total and its terms."""
        g_l1 = tf.add_n([losses.l1(x, made) for x, made in zip(clean, enhanced)]) / len(self.bands)
        g_adv = tf.zeros_like(g_l1) if d_fake is None else losses.cross_entropy(d_fake, 1.0)
        l1_weight = self.l1_weight if self.adversarial_weight else self.l1_weight or 1.0
        return self.adversarial_weight * g_adv + l1_weight * g_l1, {"g_adv": g_adv, "g_l1": g_l1}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. G fills every band. 2. Cut x, y, G(z, y) at the same frames. 3. D: real from filled. 4. G: look real to D."""
        noisy, clean = (self.normalise(spec) for spec in data[:2])  # over-smoothed y and natural x, (B, T, bins, 1)
        cut = self.random_crop(tf.shape(noisy)[1])
        y, x = partition(noisy, self.bands), partition(clean, self.bands)
        report = {}
        with tf.GradientTape() as g_tape:
            enhanced = self.generator([noisy, self.random_normal(tf.shape(noisy))], training=True)  # bands (B, T, width, 1)
            d_fake = None
            if self.adversarial_weight:
                n = len(self.discriminator.inputs)  # without conditional_d y is left out
                fake, real = (cut(enhanced) + cut(y))[:n], (cut(x) + cut(y))[:n]
                with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                    d_real = self.discriminator(real, training=True)  # (B, bands)
                    d_fake = self.discriminator(fake, training=True)
                    d_loss = self.discriminator_loss(d_real, d_fake)
                with g_tape.stop_recording():
                    d_norm = self.minimise(d_tape, d_loss, "discriminator")
                report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake), d_grad_norm=d_norm)
                d_fake = self.discriminator(fake, training=True)  # the D that has just learnt
            g_loss, terms = self.generator_loss(x, enhanced, d_fake)
        g_norm = self.minimise(g_tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def test_step(self, data):
        noisy, clean = (self.normalise(spec) for spec in data[:2])
        enhanced = self.generator([noisy, self.random_normal(tf.shape(noisy))], training=False)
        return self.log(g_l1=self.generator_loss(partition(clean, self.bands), enhanced)[1]["g_l1"])

    def random_crop(self, frames):
        """A function that cuts the same `crop` frames, chosen by (seed, step), out of every tensor of a list."""
        step = tf.cast(tf.convert_to_tensor(self.step), tf.int32)
        seed = tf.stack([tf.constant(self.seed * 1009 + 1), step])
        start = tf.random.stateless_uniform((), seed, 0, frames - self.crop + 1, dtype=tf.int32)
        return lambda pieces: [
            tf.ensure_shape(piece[:, start : start + self.crop], (None, self.crop, *piece.shape[2:])) for piece in pieces
        ]

    # ---- features ----------------------------------------------------------------------------------------------------

    def statistics_rows(self, smooth, natural):
        """Log amplitudes of the NATURAL frames, (rows, bins)."""
        return tf.reshape(natural, [-1, self.bins])

    def normalise(self, log_amplitude):
        """(B, T, bins) -> (B, T, bins, 1) with the natural training speech at zero mean and unit variance."""
        return ((log_amplitude - self.mean) / self.std)[..., None]

    def log_amplitude(self, wav):
        """(n,) -> natural logarithm of the amplitude without the last bin, (frames, bins)."""
        return tf.math.log(tf.maximum(signal.magnitude(signal.stft(wav, **self.grid))[..., : self.bins], FLOOR))

    def enhance_log_amplitude(self, log_amplitude):
        """Over-smoothed log amplitude (frames, bins) -> filtered (frames, bins): bands, G, join, undo the scaling."""
        y = self.normalise(log_amplitude[None])  # (1, T, bins, 1)
        pieces = self.generator([y, self.random_normal(tf.shape(y))], training=False)
        return merge(pieces, self.bands)[0, ..., 0] * self.std + self.mean

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair, over-smoothed and natural -> log amplitudes (k, frames, bins) each; none of a short recording."""
        return tuple(tf.signal.frame(self.log_amplitude(wav), self.frames, self.frames, axis=0) for wav in (noisy, clean))

    def enhance_segment(self, noisy):
        """(n,) -> (n,): new amplitudes, the input's phase, and rounds of Griffin and Lim's iteration."""
        n = tf.shape(noisy)[0]
        spec = signal.stft(noisy, **self.grid)  # (T, bins + 1)
        amplitude = tf.exp(self.enhance_log_amplitude(self.log_amplitude(noisy)))
        amplitude = tf.concat([amplitude, signal.magnitude(spec)[:, self.bins :]], axis=1)  # the last bin as it was
        for _ in range(self.griffin_lim):
            wav = signal.istft(signal.with_phase_of(amplitude, spec), n, **self.grid)
            spec = signal.stft(wav, **self.grid)
        return signal.istft(signal.with_phase_of(amplitude, spec), n, **self.grid)
