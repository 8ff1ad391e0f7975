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
# # cGAN: a spectrogram is a picture
#
# **Title:** cGAN · **Paper:** Michelsanti, Tan, Interspeech 2017, [arXiv:1709.01703](https://arxiv.org/abs/1709.01703) ·
# **Description:** pix2pix on spectrograms, judged by a machine that recognises speakers · **Accelerator:** none for `tiny`, GPU for
# `paper` · **Time:** about 5 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/05_cgan.ipynb)
#
# After this notebook you can
# 1. turn speech into the 256 x 256 pictures that an image network expects, and back into sound;
# 2. run the paper's step (D once, G twice), and find the layers that never learn;
# 3. measure an equal error rate, and say whether enhancement helps a speaker recogniser.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q 'ganse_tf[downstream] @ git+https://github.com/ganse-tf/ganse_tf'")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"epochs": 2, "utterances": 8, "test_utterances": 1, "sick_epochs": 2}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
width = 8  #@param {type:"integer"}
epochs = 6  #@param {type:"slider", min:2, max:100}
utterances = 60  #@param {type:"integer"}
test_utterances = 8  #@param {type:"integer"}
sick_epochs = 2  #@param {type:"integer"}
corpus = "toy"  #@param {type:"string"}
learning_rate = 2e-3  #@param {type:"number"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `preset="paper"` on a GPU with `corpus="/path/to/corpus"` (a folder or manifest that `python -m data_prep` made) has the paper's
# sizes. Two things below are ours, to get somewhere in minutes: a first layer of `width` channels (paper 64, `CGAN.tiny()` 16), and a
# learning rate that starts high and falls to 0 (0.0002, constant, in the code that the paper builds on).

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from IPython.display import Markdown

from ganse_tf import data, losses, metrics, noises, signal, viz
from ganse_tf.models.cgan import CGAN, G_STEPS, concatenate
from ganse_tf.optimizers import FusedAdam

plt.rcParams["figure.dpi"] = 80  # dots per inch: keeps this file small
KINDS, TRAIN_SNRS_DB = ("white", "babble"), (10, 20)  # the paper trains at 10 and 20 dB only, and tests from 0 dB on


def build(**options):
    keras.utils.set_random_seed(seed)
    size = dict(filters=width, d_filters=width) if preset == "tiny" else {}
    return CGAN(seed=seed, **size, **options)


model = build()
model.compile()
print(f"G {model.generator.count_params():,} and D {model.discriminator.count_params():,} parameters")

# %% [markdown]
# ## 1. The paper in one picture
#
# G is a U-Net: eight convolutions squeeze the picture to a single point, eight bring it back, and each level hands its detail to the
# other side. D sees a pair, (noisy, candidate), and says for the whole pair: real or made.

# %%
fig = viz.architecture(model, "cGAN")
viz.show(fig)

# %% [markdown]
# The inputs `mask1` to `mask3` are dropout masks. The paper has no noise vector z: dropout is all that is random in G.
#
# ## 2. Listen

# %%
train = data.toy_pairs("train", n=utterances, snr_db=TRAIN_SNRS_DB, kinds=KINDS, seed=seed) if corpus == "toy" else data.pairs(corpus)
test = data.toy_pairs("test", n=8, snr_db=(0, 10), kinds=KINDS, seed=seed)
shown = next(u for u in data.toy_corpus("test") if u.name == "m08_d06")
rate = shown.sample_rate
noisy, clean = data.mix(shown.wav, noises.make("white", len(shown.wav), rate, seed=seed), 5, seed=seed)
print(f"'{shown.text}' in white noise at 5 dB")
viz.player(noisy, rate, "noisy")

# %% [markdown]
# ## 3. What the model sees
#
# STFT magnitudes, 256 frames by 256 bins (the top bin is dropped), moved to the range -1 ... 1 of a picture:
# $v = 2\,|X| / r - 1$, where $r$ is the loudest point of the *noisy* utterance. To train, all utterances are put in a row and cut
# every 256 frames (4.1 s).
#
# **Predict, then run:** most of a spectrogram is quiet. Where do most values of $v$ lie?

# %%
patches = concatenate(train)
noisy_patch, clean_patch = (np.asarray(side)[:1] for side in model.preprocess(*patches[0]))
print(f"{len(train)} utterances -> {len(patches)} patches; one patch {noisy_patch.shape} {noisy_patch.dtype}")
log_patch = np.asarray(build(scale="log").preprocess(*patches[0])[0])[:1]
fig, axes = plt.subplots(1, 3, figsize=(11, 3), layout="constrained")
for ax, (title, patch) in zip(axes, {'noisy, scale="linear" (paper)': noisy_patch, 'noisy, scale="log" (option)': log_patch}.items()):
    image = ax.imshow(patch[0, :, :, 0].T, origin="lower", aspect="auto", cmap="magma", vmin=-1, vmax=1)
    ax.set(xlabel="frame", ylabel="bin", title=title)
fig.colorbar(image, ax=axes[:2], label="v")
axes[2].hist([noisy_patch.ravel(), log_patch.ravel()], np.linspace(-1, 1, 21), label=["linear", "log"], color=viz.COLOURS[1:3])
axes[2].set(xlabel="v", ylabel="points of the patch", yscale="log", title="where the values lie")
axes[2].legend()
crowd = 100 * np.mean(noisy_patch < -0.9)
viz.show(fig, f"One noisy patch on a linear and on a logarithmic scale, and histograms of both. On the linear scale {crowd:.0f} % of the points lie "
         f"below -0.9, on the logarithmic one {100 * np.mean(log_patch < -0.9):.0f} %.")

# %% [markdown]
# ## 4. G and D on one batch
#
# The batch is **one** patch, as in the paper.

# %%
noisy_batch, clean_batch = tf.constant(noisy_patch), tf.constant(clean_patch)
enhanced = model.generate(noisy_batch, draw=1)
d_real, d_fake = model.discriminator([noisy_batch, clean_batch]), model.discriminator([noisy_batch, enhanced])
print("noisy", noisy_batch.shape, "-> enhanced", enhanced.shape, f"between {float(tf.reduce_min(enhanced)):.2f} and {float(tf.reduce_max(enhanced)):.2f}")
print(f"D: one logit per patch, real {float(d_real[0, 0]):.3f}, enhanced {float(d_fake[0, 0]):.3f}")
again = model.generate(noisy_batch, draw=2)
print(f"another dropout mask changes the output by {float(losses.l1(enhanced, again)):.4f} on average")

# %% [markdown]
# ## 5. The losses
#
# $$L_D = -E[\log D(x, y)] - E[\log(1 - D(G(y), y))] \qquad L_G = -E[\log D(G(y), y)] + 100\, E|x - G(y)|$$
#
# with $y$ noisy and $x$ clean, and a sigmoid inside the logarithm.
#
# **Predict, then run:** D cannot tell at all and gives logit 0 to everything: $L_D$? And: G is wrong by 0.02 everywhere. What does the
# second term add?

# %%
zero = tf.zeros([1, 1])
print(f"L_D for logits 0 and 0: {float(model.discriminator_loss(zero, zero)):.4f} = 2 ln 2")
total, terms = model.generator_loss(clean_batch, clean_batch + 0.02, zero)
print(f"L_G: {float(total):.4f} = {float(terms['g_adv']):.4f} + {model.l1_weight:.0f} x {float(terms['g_l1']):.4f}")

# %% [markdown]
# ## 6. One training step, line by line

# %%
import inspect

print(inspect.getsource(CGAN.train_step))

# %%
g_before = [v.numpy() for v in model.generator.trainable_variables]
enhanced = model.generate(noisy_batch, draw=0)
with tf.GradientTape() as tape:  # D's turn, once
    d_real = model.discriminator([noisy_batch, clean_batch], training=True)
    d_fake = model.discriminator([noisy_batch, enhanced], training=True)
    d_loss = model.discriminator_loss(d_real, d_fake)
d_norm = model.minimise(tape, d_loss, "discriminator")
print(f"D: loss {float(d_loss):.3f}, gradient norm {float(d_norm):.3f}; "
      f"G untouched: {all(np.array_equal(a, b) for a, b in zip(g_before, model.generator.trainable_variables))}")
for draw in range(1, G_STEPS + 1):  # G's turn, twice, with new dropout
    with tf.GradientTape() as tape:
        enhanced = model.generate(noisy_batch, draw)
        g_loss, terms = model.generator_loss(clean_batch, enhanced, model.discriminator([noisy_batch, enhanced], training=True))
    g_norm = model.minimise(tape, g_loss, "generator")
    print(f"G, turn {draw}: loss {float(g_loss):.3f} (adversarial {float(terms['g_adv']):.3f}, 100 x L1 {100 * float(terms['g_l1']):.3f}), "
          f"gradient norm {float(g_norm):.3f}")

# %% [markdown]
# **A trap worth seeing.** At the bottom of the U the picture is one point. Batch norm with a batch of one subtracts each number from itself.
#
# **Predict, then run:** what is the gradient of the layers around it (`e8`, `d1`)?

# %%
names = ("e6", "e7", "e8", "d1", "d2")
kernels = [model.generator.get_layer(name).kernel for name in names]
with tf.GradientTape() as tape:
    loss, _ = model.generator_loss(clean_batch, model.generate(noisy_batch, draw=1))
for name, kernel, gradient in zip(names, kernels, tape.gradient(loss, kernels)):
    print(f"{name}: {int(tf.size(kernel)):9,} weights, gradient norm {float(tf.norm(gradient)):.2e}")
print("output of batch norm on one point:", model.generator.get_layer("e8_bn")(tf.random.normal([1, 1, 1, kernels[2].shape[-1]]), training=True)[0, 0, 0, :4].numpy())

# %% [markdown]
# The network that the paper builds on has this property too: its U-Net of eight levels learns with seven. `bn_bottleneck=False`
# repairs it.
#
# ## 7. Train: D off and D on
#
# From the same start: `adversarial_weight=0` is plain L1 regression, 1 is the paper.

# %%
def trained(epochs, rate, **options):
    fresh = build(**options)
    turns = fresh.g_steps * len(patches) * epochs

    def optimizer(updates):
        return FusedAdam(keras.optimizers.schedules.CosineDecay(rate, updates), beta_1=0.5)

    fresh.compile(optimizer(turns), optimizer(turns // fresh.g_steps))
    return fresh, fresh.fit(data.examples(patches, fresh, batch_size=1, seed=seed), epochs=epochs, verbose=0)


d_off, history_off = trained(epochs, learning_rate, adversarial_weight=0.0)
d_on, history_on = trained(epochs, learning_rate)
print(f"{int(d_off.step)} steps without D, {int(d_on.step)} with D")

# %%
fig = viz.curves(history_on, ["g_l1", "g_adv", "d_loss", "d_real", "d_fake"], scores="logits", title="cGAN, D on")
viz.show(fig)

# %%
Markdown(viz.curves_table(history_on, ["g_l1", "g_adv", "d_loss", "d_real", "d_fake"]))

# %% [markdown]
# **Reading the curves.** `d_loss` above 2 ln 2 = 1.39 means that D does worse than somebody who never decides: usual at the beginning, when
# single patches throw it about. Healthy: `g_l1` falls, and `d_loss` stays away from 0. Now a sick one: fifty times the learning rate.

# %%
sick, history_sick = trained(sick_epochs, 50 * learning_rate)
print("epoch   healthy: g_l1  g_adv  d_loss      sick: g_l1   g_adv   d_loss")
for i in range(min(sick_epochs, epochs)):
    h, s = history_on.history, history_sick.history
    print(f"{i + 1:5d} {h['g_l1'][i]:14.3f} {h['g_adv'][i]:6.2f} {h['d_loss'][i]:7.2f} {s['g_l1'][i]:15.3f} {s['g_adv'][i]:7.2f} {s['d_loss'][i]:8.2f}")

# %% [markdown]
# Compare the rows. A sick `g_l1` near 1 means that G's tanh is stuck at one end of the range, and `d_loss` 0 that D has an opponent who stands
# still. Waiting does not bring it back.
#
# ## 8. Look and listen again

# %%
enhanced_off, enhanced_on = d_off.enhance(noisy, rate), d_on.enhance(noisy, rate)
fig = viz.triptych(noisy, enhanced_on, clean, rate, titles=("noisy, white 5 dB", "cGAN tiny, D on", "clean"))
viz.show(fig)

# %%
spectra = [np.abs(signal.stft(wav, 512, 256)) for wav in (noisy, enhanced_on)]
ax = viz.mask(np.minimum(spectra[1] / (spectra[0] + 1e-6), 1.5), rate, 256, title="gain: enhanced over noisy magnitude")
viz.show(ax.figure)

# %% [markdown]
# cGAN draws magnitudes, not a mask; the picture shows the gain that this amounts to.

# %%
viz.player(enhanced_on, rate, "enhanced, D on")

# %%
viz.player(noisy - enhanced_on, rate, "residual: what was taken away")

# %% [markdown]
# ## 9. Score: noisy, classical, D off, D on
#
# STSA-MMSE is the classical method of the paper.

# %%
from ganse_tf.downstream import classical

rows = {"noisy": lambda wav, r: wav, "STSA-MMSE": classical.stsa_mmse, "cGAN tiny, D off": d_off.enhance, "cGAN tiny, D on": d_on.enhance}
for name in ("cgan", "cgan_d_off"):
    if name in ganse_tf.presets.names():
        rows[f"released {name}"] = ganse_tf.from_preset(name).enhance
tables = {}
for label, enhance in rows.items():
    scored = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in test)
    tables[label] = metrics.score_pairs(scored, ("pesq_wb", "stoi", "si_sdr"), progress=False)
Markdown(metrics.markdown(tables))

# %%
print("SI-SDR in dB by SNR of the input")
levels = sorted({p.snr_db for p in test})
print(f"{'':18s}" + "".join(f"{level:8.0f} dB" for level in levels))
for label, table in tables.items():
    means = [np.mean([row["si_sdr"] for row, p in zip(table.rows, test) if p.snr_db == level]) for level in levels]
    print(f"{label:18s}" + "".join(f"{mean:11.2f}" for mean in means))

# %% [markdown]
# **Read this honestly.** After a few hundred steps of a thin network, cGAN is below the noisy row in SI-SDR, most of all at 10 dB: a network
# that draws the whole picture anew also redraws what was fine. By these scores you would throw it away. Now let a machine listen.
#
# ## 10. The paper's question: does it help a machine to recognise speakers?
#
# **Speaker verification.** A voice claims to be Anna. A mixture of 64 bell curves (the *universal background model*) describes what
# speech features look like in general; a copy of it, moved towards Anna's recordings, describes Anna. The score is the difference of
# the two log-likelihoods. Accept above a threshold. The **equal error rate (EER)** is the error at the threshold where false
# alarms and misses are equally frequent: lower is better, 50 % is guessing.
#
# The speakers here (test and validation part of the toy corpus) were never heard by cGAN. Enrolment speech is clean; both it and the
# test speech pass through the enhancer (test 2 of the paper).
#
# **Predict, then run:** white noise destroys the features. Who helps more, the classical method or cGAN?

# %%
from ganse_tf.downstream import speaker_verification as verification

protocol = verification.toy_protocol(n_test=test_utterances)
noise = noises.make("white", 20 * protocol.sample_rate, protocol.sample_rate, seed=seed + 1)
front_ends = {"none": None, "STSA-MMSE": classical.stsa_mmse, "cGAN tiny, D off": d_off.enhance, "cGAN tiny, D on": d_on.enhance}
found = verification.verify(protocol, front_ends, noise, snrs_db=(0, 10, None), seed=seed)
print(f"{len(protocol.test)} speakers, {found[0]['n_target']} true and {found[0]['n_impostor']} false claims per cell")
Markdown(verification.table(found))

# %%
fig, ax = plt.subplots(figsize=(6.5, 3), layout="constrained")
for i, name in enumerate(front_ends):
    mine = [row for row in found if row["front_end"] == name]
    ax.plot(range(len(mine)), [100 * row["eer"] for row in mine], marker="o^sD"[i], color=viz.COLOURS[i], linestyle=viz.DASHES[i], label=name)
ax.set_xticks(range(len(mine)), ["clean" if row["snr_db"] is None else f"{row['snr_db']} dB" for row in mine])
ax.set(xlabel="test speech in white noise", ylabel="EER (%)", ylim=(0, 55), title="lower is better; 50 % is guessing")
ax.legend(fontsize=8)
means = {name: 100 * np.mean([row["eer"] for row in found if row["front_end"] == name]) for name in front_ends}
viz.show(fig, "Equal error rates against the level of the noise. Means: " + ", ".join(f"{name} {mean:.1f} %" for name, mean in means.items()) + ".")

# %% [markdown]
# **The paper against ours.** Mean EER over 0 to 20 dB and clean, white noise, clean speaker models (paper, Table 2):
#
# | front end | paper |
# |---|---:|
# | none | 28.98 % |
# | STSA-MMSE | 15.10 % |
# | DNN mask, one model for all noises | 15.57 % |
# | cGAN, one model for white noise | 16.99 % |
# | cGAN, one model for all noises | 12.62 % |
#
# The paper used 49 speakers of RSR2015, 512 Gaussians and a network of 85 million weights; we have six synthetic voices, so one true claim more or
# less moves a cell by more than one per cent. Ask of your table: is every enhanced row below "none" in noise, what does
# enhancement cost on clean speech, and does the order of the rows agree with SI-SDR above? The recogniser hears the smooth shape of the
# spectrum (MFCC), not samples: noise between the formants hurts it, a wrong waveform does not.
#
# In PESQ (wide band, white noise at 10 dB) the paper reports 1.60 without enhancement, 1.88 with STSA-MMSE and 2.22 with the
# general cGAN (Table 1).
#
# ## Exercises
#
# 1. **(easy)** Write the map from magnitudes to the picture's range.
# 2. **(medium)** Write one step of D for pairs (candidate, noisy), without moving G.
# 3. **(hard)** Write the equal error rate.
#
# To go on: train with `scale="log"`, with `bn_bottleneck=False`, with `disc="patch"`; give the numbers of seeds you tried.

# %%
from ganse_tf.classroom import check, describe

print(describe("nb05.to_network"))
check("nb05.to_network", lambda mag, ref: mag / ref)  # replace by your function

# %%
print(describe("a3.d_step"))


def d_step(generator, discriminator, optimizer, noisy, clean):
    raise NotImplementedError()


check("a3.d_step", d_step)

# %%
print(describe("nb05.eer"))
check("nb05.eer", lambda targets, impostors: np.mean(targets < impostors.mean()))  # replace by your function
