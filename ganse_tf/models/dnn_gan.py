r"""DNN-GAN: On Adversarial Training and Loss Functions for Speech Enhancement.

A. Pandey, D. L. Wang, ICASSP 2018, pp. 5414-5418, https://ashutosh620.github.io/files/CGAN_ICASSP_2018.pdf
Five frames of noisy STFT magnitude in, the five masks of these frames out; noisy phase.

The idea: take the plain fully connected mask estimator, the work horse of its time, and ask two questions.  Does a
discriminator help it?  And should its error be absolute or squared?  G sees the context x_c (5 x 257 magnitudes) and
noise z and estimates the spectral magnitude mask x = |S| / |Y|, clipped at 10 and mapped to [-1, 1]; D sees the pair
(mask, x_c):

    J_D = 1/2 E[(D(x, x_c) - 0.9)^2] + 1/2 E[D(G(z, x_c), x_c)^2]                          (eq. 4, label smoothing)
    J_G = 1/2 E[(D(G(z, x_c), x_c) - 1)^2] + lambda |G(z, x_c) - x|_1,   lambda = 100      (eqs. 5 and 7)

Windows move on by one frame, so an inner frame gets five masks; their mean is used.  The answers of the paper: D adds
about one point of STOI and no PESQ; L1 gives better PESQ than L2 for every target (mask or magnitude).

Differs from the paper (what its text leaves open -> our choice; effects not measured unless a number stands there)
- x_c is missing inside D(G(.)) in the printed equations; Fig. 1 and the text make D conditional -> the pair.
- Norm in J_G: a bare norm is printed -> mean over batch and 1285 values (a sum would make lambda 128,500).
- Minibatches of the two D updates -> every update of a step gets its own third of the batch: batch_size = 3 x 1024 is
  the paper's 1024.
- Batch norm precedes every layer but G's first and D's last -> it sits on the input of these dense layers, after PReLU
  and dropout; `bn_position="pre_activation"` is the other reading.
- G's step runs D on batch statistics and with dropout, without moving D's averages; D's step treats G alike.
- Zero mean and unit variance of the input -> per bin, over the noisy training set, the same for all five frames; D sees
  the same. `fit` takes them from its first epoch of data (`adapt`).
- Ideal ratio mask: only cited -> (S^2 / (S^2 + N^2))^0.5. STFT target: no units -> |S| itself, ReLU head.
- G's output starts at a mask of 0.5, its last bias at -1.47. From zero, far from the targets' mean, batch norm leaves
  the mean to that slow bias; the weights find it first and drive loud windows to +1, where tanh in float32 has no
  gradient. Measured with `tiny()`, L1 alone, 50 toy pairs, 16 epochs: 9.5 % of the windows stuck there and a mean error
  of 0.24; from -1.47 none and 0.05.
- PReLU: one slope per unit, from 0.25. LeakyReLU of D: 0.3 as in SEGAN, the paper's model for D. beta_2 0.999. Glorot
  weights. Number of epochs: yours.
- z at test time: one seeded draw per window. Phase: noisy; only magnitudes are estimated.
- STFT frames are centred, the signal mirrored at its ends; the outer frames are averaged over the 1, 2, 3, 4 masks they
  have. Recordings shorter than five frames are padded with zeros.
- 0.81, the value at which the paper sees G's adversarial loss settle, is eq. 5 only for D = -0.27; but is 0.9^2, what
  a loss without the 1/2 and with label 0.9 gives when D says 0 -> label 1 and 1/2 as printed; see `g_label=0.9`.
- Networks without z have 1024 units, with z 1124: the paper's rows compare width and noise at once; see `units`.
"""

import itertools

import keras
import tensorflow as tf

from ganse_tf import layers, losses, optimizers, signal
from ganse_tf.base import EnhancementGAN, options

STFT = dict(n_fft=512, hop_length=256, window="hann")  # 32 ms, hop 16 ms
BINS = 257
CONTEXT = 5  # frames per window
SIDE = CONTEXT // 2
SHORTEST = (CONTEXT - 1) * STFT["hop_length"]  # samples that give five frames: 64 ms
SMM_CLIP = 10.0
STD_FLOOR = 1e-5  # of the deviation of a bin
UNITS_WITH_Z, UNITS_WITHOUT_Z = 1124, 1024  # in G's three hidden layers; D's have twice as many
Z_SIZE = 100
DROPOUT = 0.2
REAL_LABEL = 0.9  # alpha of eq. 4, section 5.3
L1_WEIGHT = 100.0  # lambda of eq. 7, section 5.3
D_STEPS = 2  # D updates per G update
LEARNING_RATE, BETA_1 = 2e-4, 0.5  # Adam
LEAK = 0.3  # LeakyReLU in D, SEGAN's
HEADS = {  # target -> G's last activation, and where it starts: masks of 0.5 (atanh(-0.9) = -1.47)
    "scaled_smm": ("tanh", -1.47), "smm": ("relu", 0.5), "irm": ("sigmoid", 0.0), "stft": ("relu", 0.5),
}  # fmt: skip


def hidden_layers(x, units, activations, bn_position, bn_first):
    """Three blocks of Dense, activation and dropout; batch norm comes before each Dense or before each activation.

    `bn_first` says whether the first block has batch norm: D's has, G's has not.
    """
    for i, activation in enumerate(activations):
        normalise = keras.layers.BatchNormalization(name=f"bn{i}") if i or bn_first else keras.layers.Identity()
        x = normalise(x) if bn_position == "input" else x
        x = keras.layers.Dense(units, name=f"dense{i}")(x)  # (B, units)
        x = normalise(x) if bn_position == "pre_activation" else x
        x = layers.DrawnDropout(DROPOUT, name=f"dropout{i}")(activation(x))
    return x


def build_generator(units=UNITS_WITH_Z, z_size=Z_SIZE, target="scaled_smm", bn_position="input"):
    """[context (B, 1285), z (B, 100)] -> five masks (B, 1285). z_size 0 leaves z out."""
    head, start = HEADS[target]
    start = keras.initializers.Constant(start)
    context = keras.Input((CONTEXT * BINS,), name="context")  # (B, 1285)
    inputs, x = [context], context
    if z_size:
        z = keras.Input((z_size,), name="z")
        inputs, x = [context, z], keras.layers.Concatenate(name="context_z")([context, z])  # (B, 1385)
    quarter = keras.initializers.Constant(0.25)
    prelus = [keras.layers.PReLU(quarter, name=f"prelu{i}") for i in range(3)]
    x = hidden_layers(x, units, prelus, bn_position, bn_first=False)  # (B, 1124)
    if bn_position == "input":
        x = keras.layers.BatchNormalization(name="bn_out")(x)
        x = keras.layers.Dense(CONTEXT * BINS, bias_initializer=start, name="dense_out")(x)  # (B, 1285)
    else:
        x = keras.layers.Dense(CONTEXT * BINS, name="dense_out")(x)
        x = keras.layers.BatchNormalization(beta_initializer=start, name="bn_out")(x)
    estimate = keras.layers.Activation(head, dtype="float32", name="estimate")(x)
    return keras.Model(inputs, estimate, name="generator")


def build_discriminator(units=2 * UNITS_WITH_Z, bn_position="input"):
    """[masks (B, 1285), context (B, 1285)] -> one linear score (B, 1)."""
    candidate = keras.Input((CONTEXT * BINS,), name="candidate")
    context = keras.Input((CONTEXT * BINS,), name="context")
    x = keras.layers.Concatenate(name="pair")([candidate, context])  # (B, 2570)
    leaky = [keras.layers.LeakyReLU(negative_slope=LEAK, name=f"leaky{i}") for i in range(3)]
    x = hidden_layers(x, units, leaky, bn_position, bn_first=True)  # (B, 2248)
    score = keras.layers.Dense(1, dtype="float32", name="score")(x)  # (B, 1), unbounded: least squares
    return keras.Model([candidate, context], score, name="discriminator")


@keras.saving.register_keras_serializable(package="ganse_tf")
class DNNGAN(EnhancementGAN):
    """The fully connected GAN with the paper's sizes (G 5,542,605, D 15,907,493 parameters); `DNNGAN.tiny()` for class.

    The paper's rows: GAN is `DNNGAN(use_z=...)`, DNN is `DNNGAN(use_z=..., adversarial_weight=0)`; its second study
    is `DNNGAN(target="irm" | "stft" | "smm", use_z=False, adversarial_weight=0, l1_weight=1)` against
    `(..., l1_weight=0, l2_weight=1)`.

    Args:
        target: what G estimates: "scaled_smm" (mask mapped to [-1, 1], the GAN experiments), "smm" (mask in [0, 10]),
            "irm" (ideal ratio mask) or "stft" (clean magnitude).
        use_z: give G noise z (100 numbers per window).
        units: per hidden layer of G; None means the paper's 1124 with z and 1024 without.
        d_units: per hidden layer of D; None means 2 `units`.
        l1_weight, l2_weight: weights of the mean absolute and squared error in G's loss (paper: 100 and 0).
        d_steps: updates of D per update of G (paper: 2). A batch is shared out evenly among the d_steps + 1 updates;
            without adversarial term the whole batch is G's.
        real_label: alpha, what D should say of real pairs (paper: 0.9).
        g_label: what G wants D to say (paper: 1).
        bn_position: "input" of a dense layer or "pre_activation" (see the module's docstring).
        adversarial_weight, seed: see `EnhancementGAN`.

    Example:
        >>> model = DNNGAN.tiny()
        >>> model.compile()
        >>> history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=3 * 256), epochs=10)

    References:
        Pandey and Wang 2018, section 3 (networks, losses), section 5.3 (alpha, lambda), Tables 1 to 4.
    """

    paper = "Pandey, Wang 2018: On adversarial training and loss functions for speech enhancement"
    url = "https://ashutosh620.github.io/files/CGAN_ICASSP_2018.pdf"
    domain = "STFT magnitude mask"
    logs = (*EnhancementGAN.logs, "g_adv", "g_l1", "g_l2")
    choices = dict(target=tuple(HEADS), bn_position=("input", "pre_activation"))

    def __init__(
        self, target="scaled_smm", use_z=True, units=None, d_units=None, l1_weight=L1_WEIGHT, l2_weight=0.0,
        d_steps=D_STEPS, real_label=REAL_LABEL, g_label=1.0, bn_position="input", **kwargs,
    ):  # fmt: skip
        super().__init__(config=options(locals()), **kwargs)
        if not (l1_weight or l2_weight or self.adversarial_weight):
            raise ValueError("l1_weight, l2_weight and adversarial_weight are all 0: G has nothing to learn. Set one.")
        if d_steps < 1:
            raise ValueError(f"d_steps is {d_steps}; give 1 or more. To leave D out, set adversarial_weight=0.")
        units = units or (UNITS_WITH_Z if use_z else UNITS_WITHOUT_Z)
        self.target, self.use_z, self.d_steps = target, use_z, d_steps
        self.l1_weight, self.l2_weight, self.real_label, self.g_label = l1_weight, l2_weight, real_label, g_label
        self.streams = itertools.count()
        self.generator = build_generator(units, Z_SIZE if use_z else 0, target, bn_position)
        self.discriminator = build_discriminator(d_units or 2 * units, bn_position)
        self.add_statistics((BINS,), STD_FLOOR)
        for layer in (*self.generator.layers, *self.discriminator.layers):
            if isinstance(layer, layers.DrawnDropout):
                layer.draw = self.draw

    @classmethod
    def tiny(cls, **kwargs):
        """The same networks with 256 units (G 0.8 M): minutes on two CPU cores."""
        return cls(**{"units": 256, **kwargs})

    def default_optimizers(self):
        """Adam(2e-4, beta_1=0.5) for both."""
        return tuple(optimizers.FusedAdam(LEARNING_RATE, beta_1=BETA_1) for _ in "GD")

    # ---- losses ------------------------------------------------------------------------------------------------------

    def discriminator_loss(self, d_real, d_fake):
        """Eq. 4; only the real label is smoothed."""
        return 0.5 * (losses.least_squares(d_real, self.real_label) + losses.least_squares(d_fake, 0.0))

    def generator_loss(self, target, estimate, d_fake=None):
        """Eqs. 5 and 7: the total and its terms."""
        g_l1, g_l2 = losses.l1(target, estimate), losses.l2(target, estimate)
        g_adv = tf.zeros_like(g_l1) if d_fake is None else 0.5 * losses.least_squares(d_fake, self.g_label)
        total = self.adversarial_weight * g_adv + self.l1_weight * g_l1 + self.l2_weight * g_l2
        return total, {"g_adv": g_adv, "g_l1": g_l1, "g_l2": g_l2}

    # ---- the algorithm -----------------------------------------------------------------------------------------------

    def train_step(self, data):
        """1. Twice: D pulls real pairs to 0.9, estimated pairs to 0. 2. G pulls D to 1 and stays near the target."""
        *for_d, for_g = self.minibatches(*data[:2])
        self.streams = itertools.count(self.d_steps + 1)  # numbers the dropout draws of this step
        report = {}
        for i, (context, target) in enumerate(for_d):
            with keras.StatelessScope():  # batch statistics as in G's own step, but G's moving averages stay
                estimate = self.generator(self.with_z(context, i), training=True)  # (B, 1285)
            with tf.GradientTape() as tape:
                d_real = self.discriminator([target, context], training=True)  # (B, 1); each call has its own
                d_fake = self.discriminator([estimate, context], training=True)  # batch statistics
                d_loss = self.discriminator_loss(d_real, d_fake)
            report = dict(d_loss=d_loss, d_real=tf.reduce_mean(d_real), d_fake=tf.reduce_mean(d_fake))
            report["d_grad_norm"] = self.minimise(tape, d_loss, "discriminator")
        context, target = for_g
        with tf.GradientTape() as tape:
            estimate = self.generator(self.with_z(context, self.d_steps), training=True)
            d_fake = None
            if self.adversarial_weight:
                with keras.StatelessScope():  # D's moving averages stay
                    d_fake = self.discriminator([estimate, context], training=True)
            g_loss, terms = self.generator_loss(target, estimate, d_fake)
        g_norm = self.minimise(tape, g_loss, "generator")
        return self.log_step(**report, g_loss=g_loss, g_grad_norm=g_norm, **terms)

    def minibatches(self, noisy, target):
        """Share a batch out among the updates of one step: [(normalised context, target), ...], G's last."""
        n = 1 + self.d_steps * bool(self.adversarial_weight)
        size = -(-tf.shape(noisy)[0] // n)  # rounded up: what does not divide is filled from the start
        rows = tf.range(n * size) % tf.shape(noisy)[0]
        parts = [rows[i * size : (i + 1) * size] for i in range(n)]
        return [(self.normalise(tf.gather(noisy, part)), tf.gather(target, part)) for part in parts]

    def test_step(self, data):
        noisy, target = data[:2]
        estimate = self.generator(self.with_z(self.normalise(noisy)), training=False)
        return self.log(g_l1=losses.l1(target, estimate), g_l2=losses.l2(target, estimate))

    def with_z(self, context, stream=0):
        """G's inputs: the context and, if used, one z per window."""
        return [context, self.random_normal((tf.shape(context)[0], Z_SIZE), stream)] if self.use_z else [context]

    def draw(self, shape):
        """Uniform numbers in [0, 1) for dropout that depend only on (seed, step, which call of the step)."""
        seed = [tf.constant(self.seed * 1009 + next(self.streams)), tf.convert_to_tensor(self.step)]
        return tf.random.stateless_uniform(shape, tf.stack(seed))

    # ---- features ----------------------------------------------------------------------------------------------------

    def statistics_rows(self, noisy, clean):
        """Magnitudes of the noisy frames, (rows, 257)."""
        return tf.reshape(noisy, [-1, BINS])

    def normalise(self, noisy):
        """Windows of magnitudes (B, 1285) -> zero mean, unit variance."""
        return (noisy - tf.tile(self.mean, [CONTEXT])) / tf.tile(self.std, [CONTEXT])

    def encode(self, noisy, clean):
        """Complex spectrograms (T, 257) of noisy and clean speech -> the target (T, 257)."""
        clean_mag, noisy_mag = signal.magnitude(clean), signal.magnitude(noisy)
        if self.target == "stft":
            return clean_mag
        if self.target == "irm":
            return signal.irm(clean_mag, signal.magnitude(noisy - clean), beta=0.5)
        smm = signal.smm(clean_mag, noisy_mag, clip=SMM_CLIP)
        return smm * 2 / SMM_CLIP - 1 if self.target == "scaled_smm" else smm

    def decode(self, estimate, noisy_mag):
        """Estimated target and noisy magnitude (T, 257) -> enhanced magnitude (T, 257)."""
        if self.target == "stft":
            return estimate
        return noisy_mag * ((estimate + 1) * SMM_CLIP / 2 if self.target == "scaled_smm" else estimate)

    # ---- sound -------------------------------------------------------------------------------------------------------

    def preprocess(self, noisy, clean):
        """(n,) pair -> noisy magnitudes, targets (windows, 1285): five frames, moving on by one; none below 64 ms."""
        whole = tf.shape(noisy)[0] - tf.shape(noisy)[0] * tf.cast(tf.shape(noisy)[0] < SHORTEST, tf.int32)
        noisy, clean = (signal.stft(at_least_one_window(wav), **STFT) for wav in (noisy, clean))
        return windows(signal.magnitude(noisy))[:whole], windows(self.encode(noisy, clean))[:whole]

    def enhance_segment(self, noisy):
        """(n,) -> (n,): the mean of all masks of a frame, noisy phase."""
        spec = signal.stft(at_least_one_window(noisy), **STFT)  # (T, 257)
        mag = signal.magnitude(spec)
        estimate = self.generator(self.with_z(self.normalise(windows(mag))), training=False)  # (T - 4, 1285)
        estimate = signal.average_context(tf.reshape(estimate, [-1, CONTEXT, BINS]), SIDE, SIDE, pad="none")  # (T, 257)
        return signal.istft(signal.with_phase_of(self.decode(estimate, mag), spec), tf.shape(noisy)[0], **STFT)


def at_least_one_window(wav):
    """Zeros after a signal shorter than five frames."""
    return tf.pad(wav, [[0, tf.maximum(0, SHORTEST - tf.shape(wav)[0])]])


def windows(frames):
    """(T, 257) -> (T - 4, 1285), frame after frame."""
    return tf.reshape(signal.context(frames, SIDE, SIDE, pad="none"), [-1, CONTEXT * BINS])
