# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # GANs from scratch, in one dimension
#
# **Title:** GANs in one dimension · **Description:** everything that happens in a GAN, on numbers instead of sounds: the perfect D,
# saturating gradients, healthy and sick curves, a metric as D, gradient reversal · **Accelerator:** none needed ·
# **Time:** about 3 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/03_gans_from_scratch_in_one_dimension.ipynb)
#
# After this notebook you can
# 1. write the training step of a GAN from memory and say what a perfect discriminator would answer;
# 2. compare least squares, cross-entropy and the saturating loss by their gradients, and read a pair of loss curves as a doctor would;
# 3. explain two relatives of the GAN by a picture: a learnt metric (MetricGAN) and gradient reversal (AFM).

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 60}}
#@title Settings
steps = 1000  #@param {type:"slider", min:60, max:10000}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# ## 1. The game
#
# "Speech" is one number here: -2 or +2, with a little scatter. The generator G has never seen it. It turns noise $z$ (a bell curve)
# into numbers, and the discriminator D says whether a number looks like speech.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import losses, viz
from ganse_tf.layers import GradientScale
from ganse_tf.optimizers import FusedAdam

plt.rcParams["figure.dpi"] = 80  # dots per inch: keeps this file small
MODES, SCATTER, BATCH = (-2.0, 2.0), 0.4, 256


def speech(n, key=0):
    """n numbers (n, 1): one of two modes plus scatter."""
    rng = np.random.default_rng([seed, key])
    return (rng.choice(MODES, (n, 1)) + SCATTER * rng.standard_normal((n, 1))).astype(np.float32)


def network(name, inputs=1, key=0):
    """Two hidden layers of 32; the last layer is linear: D gives a raw score, not a probability."""
    start = [keras.initializers.GlorotUniform(seed=1000 * seed + 10 * key + i) for i in range(3)]
    hidden = [keras.layers.Dense(32, "leaky_relu", kernel_initializer=start[i]) for i in range(2)]
    return keras.Sequential([keras.Input([inputs]), *hidden, keras.layers.Dense(1, kernel_initializer=start[2])], name=name)


z = np.random.default_rng(seed).standard_normal((5000, 1)).astype(np.float32)
G, D = network("generator", key=1), network("discriminator", key=2)
grid = np.linspace(-5, 5, 400, dtype=np.float32)[:, None]


def draw_samples(ax, made, title):
    bins = np.linspace(-5, 5, 80)
    ax.hist(speech(5000).ravel(), bins, density=True, color="0.8", label="speech")
    ax.hist(np.ravel(made), bins, density=True, histtype="step", color=viz.COLOURS[2], linewidth=1.5, label="G(z)")
    ax.set(xlabel="value", title=title)
    ax.legend(fontsize=8)


fig, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
draw_samples(ax, G(z), "before training")
viz.show(fig, "Histogram of speech with peaks at -2 and 2, and of the untrained generator, one narrow peak near 0.")

# %% [markdown]
# ## 2. The best possible D
#
# Hold G still and train only D. There is a formula for what comes out. With $p$ the density of speech and $q$ that of G's numbers:
#
# $$\text{least squares: } D^*(x) = \frac{p(x)}{p(x)+q(x)} \qquad \text{cross-entropy: } \sigma(D^*(x)) = \frac{p(x)}{p(x)+q(x)}$$
#
# **Predict, then run:** what does D say at 2? At 0? At 4, where neither speech nor G ever is?
#
# To have a $q$ that we can write down, G's numbers are a bell curve at 0 of width 1 for this section.

# %%
def bell(x, mean, width):
    return np.exp(-(((x - mean) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))


p = sum(bell(grid, mode, SCATTER) for mode in MODES) / 2
q = bell(grid, 0.0, 1.0)

D_LOSSES = {
    "least squares": lambda real, fake: losses.least_squares(real, 1.0) + losses.least_squares(fake, 0.0),
    "cross-entropy": lambda real, fake: losses.cross_entropy(real, 1.0) + losses.cross_entropy(fake, 0.0),
}


def train_d_only(loss, count):
    critic = network("discriminator", key=3)
    optimizer = FusedAdam(3e-3)
    optimizer.build(critic.trainable_variables)

    @tf.function
    def step(real, fake):
        with tf.GradientTape() as tape:
            value = loss(critic(real), critic(fake))
        optimizer.apply(tape.gradient(value, critic.trainable_variables), critic.trainable_variables)

    rng = np.random.default_rng(seed)
    for i in range(count):
        step(speech(BATCH, i), rng.standard_normal((BATCH, 1)).astype(np.float32))
    return critic


critics = {name: train_d_only(loss, steps) for name, loss in D_LOSSES.items()}
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
ax.plot(grid, p / (p + q), color="0.7", linewidth=5, label="formula p / (p + q)")
for i, (name, critic) in enumerate(critics.items()):
    answer = critic(grid) if name == "least squares" else tf.sigmoid(critic(grid))
    ax.plot(grid, answer, color=viz.COLOURS[2 * i + 2], linestyle=viz.DASHES[i], label=f"D, {name}")
ax.fill_between(grid.ravel(), p.ravel() / 2, color="0.93", label="speech (half height)")
ax.set(xlabel="value", ylabel="D's answer", title="D against the formula")
ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
seen = (p + q).ravel() > 0.05
errors = {name: np.abs(np.ravel(critic(grid) if name == "least squares" else tf.sigmoid(critic(grid))) - (p / (p + q)).ravel())[seen].mean()
          for name, critic in critics.items()}
viz.show(fig, "The trained discriminators follow the formula where there are samples; mean distance "
         + ", ".join(f"{error:.3f} ({name})" for name, error in errors.items()) + ". Elsewhere they say anything.")

# %% [markdown]
# Beyond 3 and -3 the formula falls back to 0 (the wide bell of G reaches further out than speech), but hardly a sample is ever there, and D
# goes on saying 1. D's opinion where it has seen nothing is an invention. G will walk there one day: remember this for MetricGAN.
#
# ## 3. The losses of G, and a gradient that dies
#
# G wants a high score for its numbers. Three ways to say so, with $D$ the raw score of G's number:
#
# | name | G minimises | gradient with respect to $D$ |
# |---|---|---|
# | saturating (the original min-max) | $\log(1-\sigma(D))$ | $-\sigma(D)$ |
# | cross-entropy (non-saturating) | $-\log\sigma(D)$ | $\sigma(D)-1$ |
# | least squares | $(D-1)^2$ | $2(D-1)$ |
#
# **Predict, then run:** at first D is right: it scores G's numbers -8. Which loss tells G to move, and which says next to nothing?

# %%
G_LOSSES = {
    "least squares": lambda fake: losses.least_squares(fake, 1.0),
    "cross-entropy": lambda fake: losses.cross_entropy(fake, 1.0),
    "saturating": lambda fake: losses.saturating(fake),
}
raw = tf.constant(np.linspace(-8, 4, 200, dtype=np.float32))


def slope(loss, at):
    with tf.GradientTape() as tape:
        tape.watch(at)
        value = tf.reduce_sum(tf.map_fn(loss, at[:, None]))
    return tape.gradient(value, at).numpy()


fig, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained")
for i, (name, loss) in enumerate(G_LOSSES.items()):
    for ax, values in zip(axes, (tf.map_fn(loss, raw[:, None]), np.abs(slope(loss, raw)))):
        ax.plot(raw, values, color=viz.COLOURS[i], linestyle=viz.DASHES[i], label=name)
axes[0].set(xlabel="raw score D(G(z))", ylabel="G's loss", ylim=(-5, 12), title="the loss")
axes[1].set(xlabel="raw score D(G(z))", ylabel="size of the gradient", yscale="log", ylim=(1e-4, 30), title="how hard it pulls")
axes[1].legend(fontsize=8)
at = tf.constant([-8.0])
viz.show(fig, "G's three losses and the size of their gradients against D's raw score. At a score of -8: "
         + ", ".join(f"{name} {abs(slope(loss, at)[0]):.2g}" for name, loss in G_LOSSES.items()) + ".")

# %% [markdown]
# The saturating loss pulls hardest when G has already won, and not at all when it is losing. Note the least-squares line crossing
# zero at 1: it also pulls G *back* from scores above 1.
#
# ## 4. The training step
#
# Four lines of mathematics. Note which variables each optimiser is given: that alone decides who learns.

# %%
def train(kind, count=steps, g_rate=2e-3, d_rate=2e-3, warm_up=0, key=0):
    """Trains a fresh pair; returns G, D and what was logged every 20 steps. `warm_up`: steps of D alone before the game starts."""
    g, d = network("generator", key=10 + key), network("discriminator", key=11 + key)
    g_optimizer, d_optimizer = FusedAdam(g_rate, beta_1=0.5), FusedAdam(d_rate, beta_1=0.5)
    g_optimizer.build(g.trainable_variables)
    d_optimizer.build(d.trainable_variables)
    d_loss_of = D_LOSSES["least squares" if kind == "least squares" else "cross-entropy"]

    @tf.function
    def d_step(real, noise):
        with tf.GradientTape() as tape:
            d_real, d_fake = d(real), d(tf.stop_gradient(g(noise)))
            d_loss = d_loss_of(d_real, d_fake)
        d_optimizer.apply(tape.gradient(d_loss, d.trainable_variables), d.trainable_variables)  # D learns, G stays
        return d_loss, tf.reduce_mean(d_real), tf.reduce_mean(d_fake)

    @tf.function
    def g_step(noise):
        with tf.GradientTape() as tape:
            g_loss = G_LOSSES[kind](d(g(noise)))
        gradients = tape.gradient(g_loss, g.trainable_variables)
        g_optimizer.apply(gradients, g.trainable_variables)  # G learns, D stays
        return g_loss, tf.linalg.global_norm(gradients)

    rng, log = np.random.default_rng([seed, key]), []
    draw = lambda: rng.standard_normal((BATCH, 1)).astype(np.float32)  # noqa: E731
    for i in range(warm_up):
        d_step(speech(BATCH, 100000 + i), draw())
    for i in range(count):
        d_loss, d_real, d_fake = d_step(speech(BATCH, i), draw())
        g_loss, g_norm = g_step(draw())
        if i % 20 == 0:
            log.append({"g_loss": g_loss, "d_loss": d_loss, "d_real": d_real, "d_fake": d_fake, "g_grad_norm": g_norm,
                        "distance": distance(g(z))})
    return g, d, log


def distance(made):
    """Mean distance of the sorted numbers from sorted speech (Wasserstein-1): 0 is perfect, and no network is asked."""
    return float(np.abs(np.sort(np.ravel(made)) - np.sort(speech(len(made)).ravel())).mean())


print(f"distance of two lots of real speech: {distance(speech(5000, 7)):.3f}; of the untrained G: {distance(G(z)):.3f}")

# %% [markdown]
# ## 5. Train: three losses
#
# **Predict, then run:** which one gets closest? The saturating loss has the handicap you saw above.

# %%
trained = {kind: train(kind) for kind in G_LOSSES}
fig, axes = plt.subplots(1, 3, figsize=(11, 2.7), layout="constrained", sharey=True)
for ax, (kind, (g, _, _)) in zip(axes, trained.items()):
    draw_samples(ax, g(z), kind)
viz.show(fig, f"Speech and G(z) after {steps} steps. Distance: " + ", ".join(f"{kind} {distance(g(z)):.2f}" for kind, (g, _, _) in trained.items()) + ".")

# %% [markdown]
# A histogram with one peak where speech has two is **mode collapse**: G has found one thing that passes and makes nothing else. Note that
# no loss curve shows it.
#
# ## 6. Reading curves: healthy
#
# In a regression the loss falls and that is that. In a GAN both losses depend on the opponent, so a flat loss can mean progress.

# %%
fig = viz.curves(trained["least squares"][2], ["g_loss", "d_loss", "d_real", "d_fake", "distance"], title="healthy: least squares")
viz.show(fig)

# %% [markdown]
# *One "epoch" on the axis is 20 steps.* **Healthy:** `d_real` and `d_fake` come together near 0.5, `d_loss` settles near 0.5 (a D that
# always says 0.5 has loss 0.25 + 0.25), and the distance, which we can only compute because this is a toy, goes down. The losses
# themselves hardly tell.
#
# ## 7. Reading curves: four patients
#
# **Predict first:** what will each of these do to the curves?
#
# | patient | what we did |
# |---|---|
# | D has won | D trained alone for a while, then the saturating loss |
# | same D, other medicine | the same head start, cross-entropy instead |
# | D too slow | D's learning rate divided by 100 |
# | much too fast | both learning rates times 100 |

# %%
patients = {
    "D has won (saturating)": train("saturating", warm_up=steps, key=1),
    "same, cross-entropy": train("cross-entropy", warm_up=steps, key=1),
    "D too slow": train("least squares", d_rate=2e-5, key=2),
    "much too fast": train("least squares", g_rate=0.2, d_rate=0.2, key=3),
}
fig, axes = plt.subplots(3, 4, figsize=(12, 6.6), layout="constrained", sharex="row")
for column, (name, (g, _, log)) in zip(axes.T, patients.items()):
    history = viz.read_history(log)
    x = 20 * (history["epoch"] - 1)
    for i, line in enumerate(("d_real", "d_fake")):
        column[0].plot(x, history[line], color=viz.COLOURS[2 * i], linestyle=viz.DASHES[i], label=line)
    column[1].plot(x, history["g_grad_norm"], color=viz.COLOURS[4])
    column[1].set(yscale="log", xlabel="step")
    column[0].set_title(name, fontsize=10)
    column[0].set_xlabel("step")
    draw_samples(column[2], g(z), f"distance {distance(g(z)):.2f}")
axes[0, 0].set_ylabel("D's raw scores")
axes[0, 0].legend(fontsize=8)
axes[1, 0].set_ylabel("norm of G's gradient")
axes[2, 0].set_ylabel("density")
facts = [f"{name}: d_real {log[-1]['d_real']:.3g}, d_fake {log[-1]['d_fake']:.3g}, G's gradient {log[0]['g_grad_norm']:.2g} at first and "
         f"{log[-1]['g_grad_norm']:.2g} at last, distance {distance(g(z)):.2f}" for name, (g, _, log) in patients.items()]
viz.show(fig, "Four sick trainings: D's scores, the norm of G's gradient, and the samples. " + "; ".join(facts) + ".")

# %% [markdown]
# **Diagnosis.**
# * *D has won:* `d_real` and `d_fake` are far apart at the first step. Compare G's first gradient in the first two columns: same D, same G,
#   only the loss differs. Adam divides by the size of the gradient and so rescues this toy; plain gradient descent would stand still. The
#   cures: cross-entropy or least squares instead of the saturating loss, a slower D, noise on D's input, spectral norm.
# * *D too slow:* the scores stay close together and creep. D keeps pointing the same way long after G has got there, so G runs past the
#   speech. Do not mistake close scores for health: equal scores are good news only if D is able to tell.
# * *Much too fast:* one jump by orders of magnitude in scores and gradient, then noise. Lower both learning rates before anything else.
#
# ## 8. Why not just regression?
#
# An enhancer also has the noisy input. Let clean speech be -1 or +1, and noisy = clean + a lot of noise. L2 answers with the *mean* of what
# could be true: often 0, a value that never occurs. On spectrograms this looks blurred. An adversarial loss punishes values that never occur.

# %%
def enhancer(adversarial_weight, count):
    g, d = network("generator", inputs=1, key=20), network("discriminator", inputs=2, key=21)
    g_optimizer, d_optimizer = FusedAdam(2e-3, beta_1=0.5), FusedAdam(2e-3, beta_1=0.5)
    g_optimizer.build(g.trainable_variables)
    d_optimizer.build(d.trainable_variables)

    @tf.function
    def step(noisy, clean):
        with tf.GradientTape() as tape:  # D sees pairs: (candidate, noisy)
            pairs = [tf.concat([x, noisy], 1) for x in (clean, tf.stop_gradient(g(noisy)))]
            d_loss = D_LOSSES["least squares"](d(pairs[0]), d(pairs[1]))
        d_optimizer.apply(tape.gradient(d_loss, d.trainable_variables), d.trainable_variables)
        with tf.GradientTape() as tape:
            enhanced = g(noisy)
            g_loss = losses.l2(clean, enhanced)
            g_loss += adversarial_weight * losses.least_squares(d(tf.concat([enhanced, noisy], 1)), 1.0)
        g_optimizer.apply(tape.gradient(g_loss, g.trainable_variables), g.trainable_variables)

    rng = np.random.default_rng(seed)
    for _ in range(count):
        clean = rng.choice([-1.0, 1.0], (BATCH, 1)).astype(np.float32)
        step(clean + rng.standard_normal((BATCH, 1)).astype(np.float32), clean)
    return g


rng = np.random.default_rng(seed + 1)
clean = rng.choice([-1.0, 1.0], (4000, 1)).astype(np.float32)
noisy = clean + rng.standard_normal((4000, 1)).astype(np.float32)
fig, axes = plt.subplots(1, 2, figsize=(9, 2.7), layout="constrained")
text = []
for ax, (name, weight) in zip(axes, {"L2 only": 0.0, "L2 + 3 x adversarial": 3.0}.items()):
    enhanced = enhancer(weight, steps)(noisy).numpy()
    ax.hist(enhanced.ravel(), np.linspace(-1.6, 1.6, 65), color=viz.COLOURS[5], edgecolor=viz.COLOURS[2])
    error, never = losses.l2(clean, enhanced), np.mean(np.abs(enhanced) < 0.5)
    ax.set(xlabel="enhanced value", title=f"{name}: squared error {error:.2f}")
    text.append(f"{name}: squared error {error:.2f}, {100 * never:.0f} % of the outputs between -0.5 and 0.5, where speech never is")
axes[0].set_ylabel("how often")
viz.show(fig, "Histograms of enhanced values; clean speech is -1 or 1. " + "; ".join(text) + ".")

# %% [markdown]
# The GAN's squared error is *larger*, and its values look more like speech. That trade runs through the whole course.
#
# ## 9. A metric as discriminator (MetricGAN)
#
# PESQ is a number without a gradient. Here is its toy: a staircase that is highest at 1.5. Its slope is zero almost everywhere, so G
# cannot climb it. MetricGAN lets D *learn* the staircase from examples, and G climbs D.
#
# **Predict, then run:** will D's curve be right everywhere?

# %%
def metric(x):
    """Score between 0 and 1, best at 1.5, in steps of 0.1: no useful gradient."""
    return np.round(np.exp(-np.abs(np.asarray(x) - 1.5) / 2), 1).astype(np.float32)


surrogate, position = network("discriminator", key=30), tf.Variable([[-3.0]])  # G is one number that can move
d_optimizer, g_optimizer = FusedAdam(3e-3), FusedAdam(2e-2)
d_optimizer.build(surrogate.trainable_variables)
g_optimizer.build([position])
rng, snapshots = np.random.default_rng(seed), {}
for i in range(min(steps, 400) + 1):
    tried = position.numpy() + 0.3 * rng.standard_normal((16, 1)).astype(np.float32)  # where G is, and a little around
    with tf.GradientTape() as tape:  # D: predict the score of what G made, and 1 for clean speech
        d_loss = losses.l2(metric(tried), surrogate(tried)) + losses.l2(1.0, surrogate(tf.constant([[1.5]])))
    d_optimizer.apply(tape.gradient(d_loss, surrogate.trainable_variables), surrogate.trainable_variables)
    with tf.GradientTape() as tape:  # G: make D say 1
        g_loss = losses.least_squares(surrogate(position), 1.0)
    g_optimizer.apply(tape.gradient(g_loss, [position]), [position])
    if i in (20, 100, 400):
        snapshots[i] = surrogate(grid).numpy(), float(position[0, 0])

fig, axes = plt.subplots(1, max(len(snapshots), 1), figsize=(10, 2.8), layout="constrained", sharey=True, squeeze=False)
for ax, (i, (curve, place)) in zip(axes[0], snapshots.items()):
    ax.plot(grid, metric(grid), color="0.7", linewidth=4, label="true metric")
    ax.plot(grid, curve, color=viz.COLOURS[2], linestyle="--", label="D")
    ax.plot(place, metric(place), marker="v", markersize=10, color=viz.COLOURS[4], label="G")
    ax.set(xlabel="what G makes", title=f"step {i}", ylim=(-0.6, 1.6))
axes[0, 0].set_ylabel("score")
axes[0, -1].legend(fontsize=8, loc="lower right")
viz.show(fig, "The staircase metric, D's guess of it, and where G stands. "
         + "; ".join(f"step {i}: G at {place:.2f}, true score {metric(place):.1f}" for i, (_, place) in snapshots.items()) + ".")

# %% [markdown]
# D is right where G is (there it is taught) and wrong elsewhere. If G runs ahead of D, it climbs a hill that does not exist: the cure in
# MetricGAN is to score G's new outputs again and again, and to repeat old lessons.
#
# ## 10. Gradient reversal (AFM)
#
# Adversarial training without a real/fake label: an *encoder* should keep what was said and forget which noise was around. A
# *domain classifier* tries to find the noise; between the two sits a layer that passes values on and turns the gradient round. So the
# classifier learns to find the noise, and the encoder, by the same backward pass, learns to hide it.

# %%
layer = GradientScale(-0.5)
x = tf.Variable([1.0, -2.0])
with tf.GradientTape() as tape:
    y = tf.reduce_sum(layer(x) ** 2)
print("forward", layer(x).numpy(), "| gradient of the sum of squares", tape.gradient(y, x).numpy(), "instead of", (2 * x).numpy())


# %%
def observations(n, key):
    """(n, 2) features that mix word and noise type, and both labels (n, 1)."""
    rng = np.random.default_rng([seed, 50, key])
    word, noise = (rng.integers(0, 2, (n, 1)).astype(np.float32) for _ in range(2))
    signs = 2 * np.concatenate([word, noise], 1) - 1
    return (signs @ [[1.0, 0.6], [0.8, -1.0]] + 0.35 * rng.standard_normal((n, 2))).astype(np.float32), word, noise


def dense(units, activation=None, key=0):
    return keras.layers.Dense(units, activation, kernel_initializer=keras.initializers.GlorotUniform(seed=100 * seed + key))


def domain_training(scale, count):
    features = keras.Input([2])
    code = dense(2, "tanh", key=1)(dense(32, "leaky_relu", key=2)(features))
    word = dense(1, key=3)(dense(32, "leaky_relu", key=4)(code))
    noise = dense(1, key=5)(dense(32, "leaky_relu", key=6)(GradientScale(scale)(code)))
    model = keras.Model(features, [code, word, noise])
    optimizer = FusedAdam(2e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, is_word, is_noise):
        with tf.GradientTape() as tape:
            _, word_logit, noise_logit = model(x)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(is_word, word_logit))
            loss += tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(is_noise, noise_logit))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    for i in range(count):
        step(*observations(BATCH, i))
    return model


fig, axes = plt.subplots(1, 2, figsize=(9, 3.3), layout="constrained")
x, word, noise = observations(400, 10**6)
text = []
for ax, (name, scale) in zip(axes, {"scale 1: help": 1.0, "scale -1: hide": -1.0}.items()):
    code, word_logit, noise_logit = domain_training(scale, steps)(x)
    right = [100 * np.mean((logit.numpy() > 0) == (truth > 0.5)) for logit, truth in ((word_logit, word), (noise_logit, noise))]
    for w in (0, 1):
        for n in (0, 1):
            at = (word.ravel() == w) & (noise.ravel() == n)
            ax.scatter(*code.numpy()[at].T, s=14, color=viz.COLOURS[1 + w], marker="ox"[n], label=f"word {w}, noise {n}")
    ax.set(xlabel="code, first number", title=f"{name}\nword {right[0]:.0f} % right, noise {right[1]:.0f} % right")
    text.append(f"{name}: word {right[0]:.0f} % right, noise {right[1]:.0f} % right")
axes[0].set_ylabel("code, second number")
axes[1].legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
viz.show(fig, "The encoder's two numbers for 400 test sounds; colour is the word, shape the noise. " + "; ".join(text) + ".")

# %% [markdown]
# The two encoders differ in one sign. With scale 1 the encoder helps to find the noise; with -1 it hides it, and guessing would be 50 %. (With
# scale 0 it would not care.) The words stay apart in both.
#
# **Checkpoint.** In which of the three, GAN, metric D, gradient reversal, does the "discriminator" get a label that a human could
# check? What is it in each?
#
# ## Exercises
#
# 1. **(easy)** Write the least-squares loss of a D. No sigmoid!
# 2. **(medium)** Write the cross-entropy on raw scores, so that it is finite for a score of -200.
# 3. **(hard)** Write gradient reversal with `tf.custom_gradient`.

# %%
from ganse_tf.classroom import check, describe

print(describe("a1.least_squares"))
check("a1.least_squares", lambda scores, label: tf.reduce_mean(scores - label))  # replace by your function

# %%
print(describe("a1.cross_entropy"))
check("a1.cross_entropy", lambda logits, label: -tf.reduce_mean(tf.math.log(logits)))  # replace by your function

# %%
print(describe("a3.gradient_reversal"))
check("a3.gradient_reversal", lambda x, scale: -scale * x)  # replace by your function
