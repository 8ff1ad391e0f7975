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
# # DNN-GAN: does a discriminator help, and which error should it join?
#
# **Title:** DNN-GAN · **Paper:** Pandey, Wang, ICASSP 2018,
# [On adversarial training and loss functions for speech enhancement](https://ashutosh620.github.io/files/CGAN_ICASSP_2018.pdf) ·
# **Description:** fully connected mask estimator; GAN against DNN, L1 against L2, z or no z · **Accelerator:** none for `tiny`,
# GPU for `paper` · **Time:** about 3 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/08_dnn_gan.ipynb)
#
# After this notebook you can
# 1. compute a spectral magnitude mask and average the five estimates that every frame gets;
# 2. say what L1 and L2 ask of a network when the answer is uncertain, and which measure prefers which;
# 3. plan a fair comparison: one change at a time, the plain network as a row of its own.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 8, "d_on_steps": 4, "n_train": 6, "n_test": 1}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
corpus = "toy"  #@param {type:"string"}
steps = 500  #@param {type:"slider", min:8, max:20000}
d_on_steps = 200  #@param {type:"slider", min:4, max:20000}
n_train = 80  #@param {type:"integer"}
n_test = 5  #@param {type:"integer"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `steps` and `d_on_steps` count updates of G without and with D (a step with D costs about eight times as much). `n_test` is the
# number of test sentences per condition. `preset="paper"` with `corpus="/path/to/pairs"` on a GPU is the paper's size.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, signal, viz
from ganse_tf.models.dnn_gan import BETA_1, BINS, CONTEXT, SMM_CLIP, STFT, DNNGAN
from ganse_tf.optimizers import FusedAdam

SEEN, UNSEEN = ("babble", "engine", "pink", "speech_shaped", "wind"), ("white",)
BATCH = 128  # windows per update of G or D
RATE = 1e-3  # DEVIATION: the paper's 2e-4 is for long trainings
build = DNNGAN.tiny if preset == "tiny" else DNNGAN
keras.utils.set_random_seed(seed)
model = build(seed=seed)
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters, moving averages included")

# %% [markdown]
# ## 1. The paper in one picture
#
# The most ordinary network of its time: dense layers only. G maps five noisy frames and z to five masks; D sees five masks and the
# same five noisy frames. Note where batch normalisation (BN) stands: in front of G's output and of D's input, just where the famous
# DCGAN recipe forbids it.

# %%
fig = viz.architecture(model, "DNN-GAN")
viz.show(fig)

# %% [markdown]
# ## 2. Listen

# %%
train = data.toy_pairs("train", n=n_train, snr_db=(-5, 0), kinds=SEEN, seed=seed) if corpus == "toy" else data.pairs(corpus)
test = [p for snr_db in (-5, 0, 5) for p in data.toy_pairs("test", n=n_test, snr_db=snr_db, kinds=SEEN, seed=seed)]
example = data.toy_pairs("test", n=1, snr_db=0, kinds=("pink",), seed=seed)[0]
noisy, clean, rate = example.load()
print(example.text, "|", example.noise, example.snr_db, "dB")
viz.player(noisy[: 2 * rate], rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# The input is the plain magnitude of the STFT (no logarithm), five frames side by side. The target is the **spectral magnitude mask**
# |S| / |Y|: clean over noisy magnitude. It may exceed 1, where noise cancels speech, so it is clipped at 10 and mapped to [-1, 1].

# %%
examples = data.examples(train, model, batch_size=BATCH, seed=seed)
context, target = next(iter(examples))
print("five noisy frames", context.shape, "=", CONTEXT, "x", BINS, "| five target masks", target.shape)
mask = (target.numpy() + 1) * SMM_CLIP / 2
print(f"masks between {mask.min():.2f} and {mask.max():.2f}; {np.mean(mask > 1):.0%} of them exceed 1")
spec_noisy, spec_clean = (signal.magnitude(signal.stft(wav, **STFT)) for wav in (noisy, clean))
ideal = signal.smm(spec_clean, spec_noisy, clip=SMM_CLIP).numpy()
ax = viz.mask(ideal, rate, vmax=1, title="ideal mask of the example (everything above 1 in the brightest colour)")
viz.show(ax.figure)

# %% [markdown]
# ## 4. G and D on one batch
#
# **Predict, then run:** an untrained G answers -0.9 nearly everywhere. Which mask is that?

# %%
model.adapt(examples)  # mean and deviation of every bin; `fit` does it by itself
context = model.normalise(context)
inputs = model.with_z(context)
estimate = model.generator(inputs)
scores = model.discriminator([estimate, context])
print("context", inputs[0].shape, "z", inputs[1].shape, "-> masks", estimate.shape, "mean", round(float(tf.reduce_mean(estimate)), 2))
print("as gains:", round(float(tf.reduce_mean((estimate + 1) * SMM_CLIP / 2)), 2), "| D's scores", np.round(scores[:3, 0], 2), "(unbounded)")

# %% [markdown]
# ## 5. The losses
#
# $$J_D = \tfrac12 E[(D(x, x_c) - 0.9)^2] + \tfrac12 E[D(G(z, x_c), x_c)^2] \qquad
# J_G = \tfrac12 E[(D(G(z, x_c), x_c) - 1)^2] + 100\,|G(z, x_c) - x|_1$$
#
# **Predict, then run:** D says 1 and 0.5 for two real pairs, 0 and 0.5 for two estimated ones; every mask is off by 0.1.
# $J_D$? Which term of $J_G$ is larger?

# %%
j_d = model.discriminator_loss(tf.constant([1.0, 0.5]), tf.constant([0.0, 0.5]))
j_g, terms = model.generator_loss(tf.zeros([2, 3]), 0.1 * tf.ones([2, 3]), tf.constant([0.0, 0.5]))
print("J_D =", round(float(j_d), 4), "| J_G =", round(float(j_g), 4), {name: round(float(value), 4) for name, value in terms.items()})

# %% [markdown]
# 0.9 in place of 1 is one-sided label smoothing: D should not become too sure of real pairs. The label of estimated pairs stays 0.
#
# **L1 or L2?** Take all masks of one batch and answer with one constant. The best constant for the squared error is the mean, for the
# absolute error the median. The masks are skewed, so the two disagree: L1 says "remove more".

# %%
fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
ax.hist(mask.ravel(), bins=np.linspace(0, 2, 81), color=viz.COLOURS[5])
ax.axvline(np.median(mask), color="black", linestyle="-", label=f"median {np.median(mask):.2f}: best for L1")
ax.axvline(mask.mean(), color=viz.COLOURS[4], linestyle="--", label=f"mean {mask.mean():.2f}: best for L2")
ax.set(xlabel="target mask (gain)", ylabel="points", title="Targets of one batch (0 to 2 shown)")
ax.legend()
plt.show()

# %% [markdown]
# *The picture: most masks are small, a few are large; the mean lies to the right of the median.*
#
# ## 6. One training step, line by line
#
# A batch is shared out: two parts for two updates of D, one for G.

# %%
import inspect

print(inspect.getsource(DNNGAN.train_step))

# %%
batch = next(iter(data.examples(train, model, batch_size=3 * BATCH, seed=seed)))
*for_d, (context, target) = model.minibatches(*batch)
g_before = [v.numpy() for v in model.generator.trainable_variables]
for i, (d_context, d_target) in enumerate(for_d):  # D's turn, twice, each time with fresh windows
    with keras.StatelessScope():  # batch norm: G's moving averages stay as they are
        estimate = model.generator(model.with_z(d_context, i), training=True)
    with tf.GradientTape() as tape:
        d_real = model.discriminator([d_target, d_context], training=True)
        d_fake = model.discriminator([estimate, d_context], training=True)
        d_loss = model.discriminator_loss(d_real, d_fake)
    d_norm = model.minimise(tape, d_loss, "discriminator")
    print(f"D, update {i + 1}: {len(d_context)} windows, loss {float(d_loss):.3f}, gradient norm {float(d_norm):.2f}")
print("G untouched:", all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables)))
with tf.GradientTape() as tape:  # G's turn
    estimate = model.generator(model.with_z(context, 2), training=True)
    with keras.StatelessScope():
        d_fake = model.discriminator([estimate, context], training=True)
    g_loss, terms = model.generator_loss(target, estimate, d_fake)
g_norm = model.minimise(tape, g_loss, "generator")
print(f"G: loss {float(g_loss):.3f}, gradient norm {float(g_norm):.2f},", {name: round(float(value), 3) for name, value in terms.items()})

# %% [markdown]
# ## 7. Train: D off and D on, z off and z on
#
# Three networks from the same start: the plain DNN without z, with z, and the GAN with z. In the paper the networks with z are also
# wider (1124 units against 1024), so its rows compare two things at once; `tiny` has 256 units in both.

# %%
def trained(updates, d_rate=RATE, epochs=8, **options):
    keras.utils.set_random_seed(seed)
    fresh = build(seed=seed, **options)
    fresh.compile(FusedAdam(RATE, beta_1=BETA_1), FusedAdam(d_rate, beta_1=BETA_1))
    parts = 1 + fresh.d_steps * bool(fresh.adversarial_weight)
    batches = data.examples(train, fresh, batch_size=parts * BATCH, seed=seed)
    fresh.adapt(batches)
    epochs = min(epochs, updates)
    return fresh, fresh.fit(batches.repeat(), epochs=epochs, steps_per_epoch=updates // epochs, verbose=0)


dnn_no_z, _ = trained(steps, use_z=False, adversarial_weight=0.0)
dnn_z, _ = trained(steps, adversarial_weight=0.0)
gan_z, history = trained(d_on_steps)

# %%
fig = viz.curves(history, ["g_l1", "d_loss", "g_adv", "d_real", "d_fake"], title="DNN-GAN, D on")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history, ["g_l1", "d_loss", "g_adv", "d_real", "d_fake"]))

# %% [markdown]
# **Sick on purpose:** D learns thirty times as fast as G, for a few steps.

# %%
_, sick = trained(max(d_on_steps // 8, 2), d_rate=30 * RATE, epochs=5)
fig = viz.curves(sick, ["g_l1", "d_loss", "g_adv", "d_real", "d_fake"], title="D too fast")
viz.show(fig)

# %% [markdown]
# **Reading the curves.** The label of real pairs is 0.9, so a D that has won rests at d_real = 0.9 and d_fake = 0; then `g_adv` is 0.5 and
# gives G no direction. Scores far outside the grey zone mean that D's updates are too large. Compare the size of `g_adv` with that of
# 100 times `g_l1`: who leads the training?
#
# ## 8. Look and listen again

# %%
enhanced = gan_z.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced, clean, rate, titles=("noisy", "DNN-GAN tiny, D on, z on", "clean"))
viz.show(fig)

# %%
made = signal.magnitude(signal.stft(enhanced, **STFT)).numpy() / (spec_noisy.numpy() + 1e-6)
ax = viz.mask(np.minimum(made, 1), rate, vmax=1, title="estimated mask (compare with section 3)")
viz.show(ax.figure)

# %%
viz.player(enhanced[: 2 * rate], rate, "enhanced")

# %%
viz.player((noisy - enhanced)[: 2 * rate], rate, "what was taken away")

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D on; z off, z on

# %%
from ganse_tf.downstream.classical import BASELINES

names = ("si_sdr", "stoi", "pesq_nb")


def table(systems, pairs=test):
    scored = {}
    for label, enhance in systems.items():
        found = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in pairs)
        scored[label] = metrics.score_pairs(found, names, progress=False)
    return Markdown(metrics.markdown(scored))


systems = {"noisy": lambda wav, r: wav, "log-MMSE": BASELINES["log-MMSE"], "DNN, z off": dnn_no_z.enhance, "DNN, z on": dnn_z.enhance, "GAN, z on": gan_z.enhance}
for released in ("dnn_gan", "dnn_gan_d_off"):
    if released in ganse_tf.presets.names():
        systems[f"released {released}"] = ganse_tf.from_preset(released).enhance
table(systems)

# %% [markdown]
# The GAN has had fewer updates of G than the DNN rows (see the settings), because each costs more. A fair reading asks: which row is
# best for the same *time*, and which for the same number of *updates*?
#
# **z or no z?** The same window with ten draws of z: does the mask change?

# %%
window = gan_z.normalise(batch[0][:BATCH])
for name, network in (("DNN, z on", dnn_z), ("GAN, z on", gan_z)):
    draws = np.stack([network.generator(network.with_z(window, stream), training=False) for stream in range(10)])
    error = np.abs(draws - batch[1][:BATCH]).mean()
    print(f"{name}: spread of the masks over z {draws.std(0).mean():.4f}, mean error {error:.4f}, ratio {draws.std(0).mean() / error:.2f}")

# %% [markdown]
# A small ratio means that G has learnt to ignore z: nothing in the L1 term rewards variety, and 100 times L1 is most of the loss.
#
# ## 10. The paper's finding: L1 against L2
#
# Without D, ideal ratio mask as target, the same network and the same steps; only the norm changes.

# %%
l1, _ = trained(steps, target="irm", use_z=False, adversarial_weight=0.0, l1_weight=1.0)
l2, _ = trained(steps, target="irm", use_z=False, adversarial_weight=0.0, l1_weight=0.0, l2_weight=1.0)
table({"noisy": systems["noisy"], "L1": l1.enhance, "L2": l2.enhance})

# %%
unseen = [p for snr_db in (-5, 0, 5) for p in data.toy_pairs("test", n=max(n_test - 2, 1), snr_db=snr_db, kinds=UNSEEN, seed=seed)]
table({"noisy, white noise (not in the training)": systems["noisy"], "L1": l1.enhance, "L2": l2.enhance}, unseen)

# %% [markdown]
# **The paper against ours.** Babble noise at 0 dB, paper's Table 3 (TIMIT, every cell L1 / L2):
#
# | target | STOI (%) | PESQ |
# |---|---|---|
# | mixture | 66.57 | 1.74 |
# | IRM | 76.84 / 75.99 | 2.15 / 2.11 |
# | STFT magnitude | 78.59 / 77.63 | 2.17 / 1.85 |
# | SMM | 76.62 / 76.35 | 2.15 / 2.07 |
#
# The paper's answer: L1 has the better PESQ for every target (two ties among its 63 comparisons), while STOI depends on target and
# noise. GAN against DNN with z, mean of five kinds of noise at 0 dB: STOI 82.14 to 83.10, PESQ 2.44 to 2.45. So D is worth one point
# of STOI, and the choice of the norm is worth more PESQ than D is.
#
# Our longer run of the same study is in [benchmarks/learn/dnn_gan_losses.md](../benchmarks/learn/dnn_gan_losses.md): three targets, 1500
# updates, with its command. There L1 wins PESQ for the two masks and L2 wins STOI and SI-SDR for all three targets on known noise.
# The mechanism is the histogram of section 5: L1 answers with the median, removes more noise and more speech.
#
# ## Exercises
#
# 1. **(easy)** Write the scaled mask of section 3.
# 2. **(medium)** Windows move on by one frame, so an inner frame has five estimates. Write their average; mind both ends.
# 3. **(hard)** Build the missing row of section 9, the GAN without z, and repeat all four with seeds 2 and 3. Is the difference between z off
#    and z on larger than the difference between seeds? Then set `l1_weight` to 0, 1 and 1000: where does D begin to matter?

# %%
from ganse_tf.classroom import check, describe

print(describe("nb08.scaled_smm"))
check("nb08.scaled_smm", lambda clean_mag, noisy_mag: clean_mag / noisy_mag / 5 - 1)  # replace by your function

# %%
print(describe("nb08.average_windows"))
check("nb08.average_windows", lambda windows: np.concatenate([windows[:, 0], windows[-1, 1:]]))  # replace by your function
