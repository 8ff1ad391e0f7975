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
# # AFM: enhancement for a listener that is a machine
#
# **Title:** AFM · **Paper:** Meng, Li, Gong, Juang, Interspeech 2018, "Adversarial feature-mapping for speech enhancement",
# [arXiv:1809.02251](https://arxiv.org/abs/1809.02251) · **Description:** log-mel features, a gradient reversal layer instead of turns, a
# senone model as judge · **Accelerator:** none · **Time:** about 4 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/09_afm.ipynb)
#
# After this notebook you can
# 1. train two opponents in one backward pass with a gradient reversal layer, and prove that it is exact;
# 2. judge features by what a recogniser makes of them: senone error and digit error;
# 3. explain why a smaller squared error does not promise fewer recognition errors.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% nbmake={"mock": {"steps": 4, "noises": 1, "n_train": 8, "n_test": 6, "judge_epochs": 1}}
#@title Settings
preset = "tiny"  #@param ["tiny", "paper"]
corpus = "toy"  #@param {type:"string"}
steps = 300  #@param {type:"slider", min:4, max:20000}
n_train = 220  #@param {type:"slider", min:8, max:220}
noises = 3  #@param {type:"slider", min:1, max:10}
n_test = 88  #@param {type:"integer"}
judge_epochs = 20  #@param {type:"integer"}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# `steps` counts updates, 64 stretches of one second each; every training utterance comes in `noises` noisy versions.
# `corpus="/path/to/corpus"` trains F and D on your own pairs; the senone model and the error rates need the digits of the toy corpus,
# because only there the place of every word is known.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, viz
from ganse_tf.downstream import senone
from ganse_tf.models.afm import AFM
from ganse_tf.optimizers import FusedAdam

SNRS_DB, TEST_SNRS_DB = (0, 5, 10, 15), (0, 5, 10)
build = AFM.tiny if preset == "tiny" else AFM
keras.utils.set_random_seed(seed)
model = build(senone_aware=True, n_senones=senone.N_SENONES, seed=seed)
model.compile()
for name, network in (("F", model.generator), ("D", model.discriminator), ("M", model.acoustic_model)):
    print(f"{name}: {sum(np.prod(v.shape) for v in network.trainable_variables):,} trainable weights")

# %% [markdown]
# ## 1. The paper in one picture
#
# F (the generator) maps noisy features to clean ones. D looks at **one frame** of 29 numbers and says clean or mapped. In SA-AFM a third
# network M, an acoustic model, reads F's output too and names the speech sound.

# %%
fig = viz.architecture(model, "AFM")
viz.show(fig)

# %% [markdown]
# ## 2. Listen

# %%
toy = [pair for i in range(noises) for pair in data.toy_pairs("train", n=n_train, snr_db=SNRS_DB, seed=seed + i)]
digits = [pair for pair in toy if pair.words]
train = toy if corpus == "toy" else data.pairs(corpus)
test = [pair for pair in data.toy_pairs("test", n=n_test, snr_db=TEST_SNRS_DB, seed=seed) if pair.words]
example = min(test, key=lambda pair: (pair.snr_db, len(pair.noisy)))
noisy, clean, rate = example.load()
print(example.text, "|", example.noise, example.snr_db, "dB")
viz.player(noisy[: 2 * rate], rate, "noisy")

# %% [markdown]
# ## 3. What the model sees: 29 numbers per frame, and how they change
#
# Every 10 ms the energies of 29 mel bands, as natural logarithms, and their first and second differences over time: 87 numbers.
# F answers with 29. What a recogniser does with them later (differences, context) is its own business.

# %%
features, target, mask = model.preprocess(tf.constant(noisy), tf.constant(clean))
labels = senone.alignments(example, features.shape[1])
fig, axes = plt.subplots(3, 1, figsize=(9, 5.2), sharex=True, layout="constrained", height_ratios=(2, 2, 1))
seconds = features.shape[1] * senone.HOP_SECONDS
for ax, values, title in zip(axes, (features[0, :, :29], target[0]), ("noisy", "clean")):
    image = ax.imshow(tf.transpose(values), origin="lower", aspect="auto", cmap="magma", vmin=-14, vmax=4, extent=(0, seconds, 0, 29))
    ax.set_title(title, loc="left")
    ax.set_ylabel("mel band")
fig.colorbar(image, ax=axes[:2], label="ln of energy")
axes[2].step(np.arange(len(labels)) * senone.HOP_SECONDS, labels, where="post")
axes[2].set(xlabel="time (s)", ylabel="senone", title="labels: 0 is silence, then three states per digit")
plt.show()
print("F's input", features.shape, "-> target", target.shape, "| labels", labels.shape, "| mask", mask.shape)

# %% [markdown]
# *The picture: noise fills the valleys of the upper panel. The lowest panel is a staircase for every digit, because each is cut into
# three equal states; large recognisers have thousands of such states, called senones.*
#
# ## 4. F, D and M on one batch
#
# A fresh F does not know the data. `adapt` takes mean and deviation of every feature, noisy and clean, and stores them **inside** F, so
# that they are saved with it. From now on squared error, D and M see clean features of zero mean and unit variance.
#
# **Predict, then run:** an untrained F answers about 0 everywhere. What is the mean squared norm of the error, summed over 29 bands?

# %%
stretches = model.examples(digits, seed=seed)  # one second each: (noisy, clean, mask, labels)
model.adapt(stretches)
noisy_batch, clean_batch, mask_batch, label_batch = batch = next(iter(stretches))
mapped = model.normalise(model.generator(noisy_batch))
target_batch = model.normalise(clean_batch)
print("noisy", noisy_batch.shape, "-> mapped", mapped.shape, f"| squared error per frame {float(model.mapping_loss(target_batch, mapped, mask_batch)):.1f}")
print("D's logits", model.discriminator(mapped).shape, "one per frame;", "M's", model.acoustic_model(mapped).shape, "one per frame and senone")
print(f"{float(1 - tf.reduce_mean(mask_batch)):.0%} of the frames are padding: mask 0, label -1, and no loss counts them")

# %% [markdown]
# ## 5. The losses
#
# $$L_F = \frac1T\sum_i \lVert F(x_i)-y_i\rVert^2 \qquad L_D = -\frac1T\sum_i [\log D(y_i) + \log(1-D(F(x_i)))] \qquad L_M = -\frac1T\sum_i \log M_{s_i}(F(x_i))$$
#
# F descends $L_F - \lambda L_D + \lambda_2 L_M$, D descends $L_D$, M descends $L_M$. The paper prints $L_D$ without its minus signs and lets D
# minimise it; a D that did so would learn to be wrong.
#
# **Predict, then run:** two frames; in one F is wrong by 1, 2 and 3 in three bands, in the other it is right. $L_F$? And $L_D$ when all
# logits are 0? And after we append a frame of padding?

# %%
error = np.zeros((1, 2, 29), np.float32)
error[0, 0, :3] = 1, 2, 3
print("L_F:", float(model.mapping_loss(0 * error, error, tf.ones([1, 2]))))
print("L_D:", round(float(model.discriminator_loss(tf.zeros([1, 2, 1]), tf.zeros([1, 2, 1]), tf.ones([1, 2]))), 4))
padded = np.concatenate([error, 100 * np.ones((1, 1, 29), np.float32)], 1)
print("L_F with padding:", float(model.mapping_loss(0 * padded, padded, tf.constant([[1.0, 1.0, 0.0]]))))

# %% [markdown]
# ## 6. Gradient reversal
#
# Other GANs take turns: a step of D, then a step of G. Here a layer between F and D does nothing on the way forward and multiplies the
# gradient by $-\lambda$ on the way back. Then the plain sum $L_F + L_D + L_M$ has the right gradient for **everyone**.
#
# **Predict, then run:** $y = r(x)^2$ with reversal $r$, $\lambda = 0.5$, $x = 3$. The value of $y$? Its gradient?

# %%
from ganse_tf.layers import GradientScale

x = tf.Variable(3.0)
with tf.GradientTape() as tape:
    y = GradientScale(-0.5)(x) ** 2
print("y =", float(y), " dy/dx =", float(tape.gradient(y, x)), "instead of 6")

# %% [markdown]
# Proof on the real networks: one backward pass against the two updates written by hand.

# %%
f_weights, d_weights = model.generator.trainable_variables, model.discriminator.trainable_variables


def losses_of(through):
    """L_F and L_D; D sees the mapped features through the function `through`."""
    mapped = model.normalise(model.generator(noisy_batch))
    d_loss = model.discriminator_loss(model.discriminator(target_batch), model.discriminator(through(mapped)), mask_batch)
    return model.mapping_loss(target_batch, mapped, mask_batch), d_loss


@tf.function
def one_pass():
    with tf.GradientTape() as tape:
        l_f, l_d = losses_of(model.reversal)
        total = l_f + l_d
    return tape.gradient(total, [f_weights, d_weights])


@tf.function
def by_hand():
    with tf.GradientTape(persistent=True) as tape:
        l_f, l_d = losses_of(tf.identity)
        for_f = l_f - model.adversarial_weight * l_d
    return tape.gradient(for_f, f_weights), tape.gradient(l_d, d_weights)


for name, together, apart in zip("FD", one_pass(), by_hand()):
    difference = max(float(tf.reduce_max(tf.abs(a - b))) for a, b in zip(together, apart))
    print(f"{name}: gradient norm {float(tf.linalg.global_norm(together)):.3f}, largest difference {difference:.1e}")

# %% [markdown]
# ## 7. One training step, line by line

# %%
import inspect

print(inspect.getsource(AFM.train_step))

# %%
before = {n: [v.numpy() for v in getattr(model, n).trainable_variables] for n in ("generator", "discriminator", "acoustic_model")}
logs = model.train_step(batch)
print({name: round(float(value), 3) for name, value in logs.items()})
for name, old in before.items():
    moved = max(np.abs(a - b.numpy()).max() for a, b in zip(old, getattr(model, name).trainable_variables))
    print(f"{name}: largest change of a weight {moved:.4f}")

# %% [markdown]
# Adam's first step changes every weight by about its learning rate, 0.001, whatever the size of the gradient. All three networks moved.
#
# ## 8. Train: FM (D off), then AFM (D on)
#
# The paper's order: first FM, the squared error alone; AFM goes on from there with a fresh D. To be fair, FM gets the same number of
# extra steps. Adam(2e-3), then 5e-4, replaces the paper's SGD with 5e-7.

# %%
speech = AFM.tiny().examples(train, shuffle=False).unbatch().shuffle(10000, seed=seed).batch(64)  # without labels


def start_from(model, f=None, d=None, m=None):
    """Copy trained networks into a new model."""
    for network, source in (("generator", f), ("discriminator", d), ("acoustic_model", m)):
        if source is not None:
            getattr(model, network).set_weights(getattr(source, network).get_weights())
    return model


def trained(model, examples, updates, rate, d_rate=1e-3):
    """Train for a number of updates; returns the model and its curves."""
    model.compile(FusedAdam(rate, global_clipnorm=5.0), FusedAdam(d_rate, global_clipnorm=5.0))
    epochs = min(10, updates)
    return model, model.fit(examples.repeat(), epochs=epochs, steps_per_epoch=updates // epochs, verbose=0)


def fresh(**kwargs):
    keras.utils.set_random_seed(seed)
    return build(n_senones=senone.N_SENONES, seed=seed, **kwargs)


start, history_fm = trained(fresh(adversarial_weight=0), speech, steps, 2e-3)
fm, _ = trained(start_from(fresh(adversarial_weight=0), f=start), speech, steps // 2, 5e-4)
afm, history_afm = trained(start_from(fresh(), f=start), speech, steps // 2, 5e-4)

# %%
fig = viz.curves(history_afm, ["g_l2", "d_loss", "d_real", "d_fake"], scores="logits", title="AFM, from a trained F")
viz.show(fig)

# %%
from IPython.display import Markdown

Markdown(viz.curves_table(history_afm, ["g_l2", "d_loss", "d_real", "d_fake"]))

# %% [markdown]
# **Reading the curves.** `d_loss` near $2\log 2 = 1.39$ means that D cannot tell mapped from clean frames; `g_l2` is $L_F$.
#
# **Sick on purpose:** the same start with a $\lambda$ far too large.

# %%
sick_weight = 300.0
_, sick = trained(start_from(fresh(adversarial_weight=sick_weight), f=start), speech, max(steps // 4, 2), 5e-4)
fig = viz.curves(sick, ["g_l2", "d_loss", "d_real", "d_fake"], scores="logits", title=f"AFM, lambda = {sick_weight:g}")
viz.show(fig)

# %%
Markdown(viz.curves_table(sick, ["g_l2", "d_loss", "d_real", "d_fake"]))

# %% [markdown]
# F now mostly deceives: `g_l2`, the distance to the right answer, grows, and the logits swing.
#
# ## 9. SA-AFM: a third network in the same pass
#
# M first learns senones from clean *and* noisy features ("multi-condition"), then F, D and M go on together.

# %%
sa_afm = start_from(fresh(senone_aware=True), f=afm, d=afm)
labelled = sa_afm.examples(digits, batch_size=32, seed=seed)


def both(noisy, clean, mask, labels):
    """Clean and noisy features of the same stretches, with the same labels."""
    features = sa_afm.normalise(keras.ops.concatenate([noisy[..., : senone.N_LFB], clean], 0))
    return features, keras.ops.concatenate([labels, labels], 0)


m = sa_afm.acoustic_model
m.compile(keras.optimizers.Adam(2e-3, global_clipnorm=5.0), loss=senone.cross_entropy, jit_compile=False)
m_history = m.fit(labelled.map(both).repeat(), epochs=1, steps_per_epoch=steps, verbose=0, shuffle=False)
multi_condition = start_from(fresh(senone_aware=True), f=afm, m=sa_afm)  # a copy, before the joint training
sa_afm, history_sa = trained(sa_afm, sa_afm.examples(digits, seed=seed), steps // 2, 5e-4)

# %%
fig = viz.curves(history_sa, ["g_l2", "m_loss", "senone_error", "d_loss"], scores="logits", title="SA-AFM, joint training")
viz.show(fig)

# %% [markdown]
# ## 10. Judge: senone error and digit error
#
# **Table A.** A recogniser that has only heard clean speech reads noisy and mapped features. It stands for a system that cannot be
# retrained. `Wiener` enhances the waveform first. `L_F` is the squared error of normalised features: compare its order with that of the
# error rates.

# %%
from ganse_tf.downstream.classical import BASELINES

keras.utils.set_random_seed(seed)
judge = senone.CleanRecogniser(data.toy_corpus("train"), epochs=judge_epochs, seed=seed)
texts = [pair.text for pair in test]
clean_features = [senone.lfb(pair.clean).numpy() for pair in test]
test_labels = [senone.alignments(pair, len(f)) for pair, f in zip(test, clean_features)]
features = {
    "noisy": [senone.lfb(pair.noisy).numpy() for pair in test],
    "Wiener": [senone.lfb(BASELINES["Wiener"](pair.noisy, pair.sample_rate)).numpy() for pair in test],
    "FM (D off)": [fm.map_features(pair.noisy).numpy() for pair in test],
    "AFM (D on)": [afm.map_features(pair.noisy).numpy() for pair in test],
    "SA-AFM": [sa_afm.map_features(pair.noisy).numpy() for pair in test],
    "clean": clean_features,
}


def squared_error(found):
    """L_F over all test frames."""
    pairs = zip(found, clean_features)
    return float(np.mean(np.concatenate([np.sum((fm.normalise(a) - fm.normalise(b)) ** 2, 1) for a, b in pairs])))


lines = ["| | senone error (%) | digit error (%) | L_F |", "|---|---:|---:|---:|"]
for name, found in features.items():
    rates = judge.error_rates(found, test_labels, texts)
    lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in rates.values()) + f" | {squared_error(found):.1f} |")
Markdown("\n".join(lines))

# %% [markdown]
# **Table B.** A recogniser that may be retrained: M, trained on clean and noisy speech, and M after the joint training, behind its F.

# %%
lines = ["| | senone error (%) | digit error (%) |", "|---|---:|---:|"]
for name, network, found in (("noisy, multi-condition M", multi_condition, features["noisy"]), ("SA-AFM, F and M", sa_afm, features["SA-AFM"]),
                             ("clean, multi-condition M", multi_condition, features["clean"])):  # fmt: skip
    posterior = senone.posteriors(network.acoustic_model, [network.normalise(f).numpy() for f in found])
    rates = senone.error_rates(posterior, test_labels, texts, judge.prior)
    lines.append(f"| {name} | " + " | ".join(f"{value:.1f}" for value in rates.values()) + " |")
Markdown("\n".join(lines))

# %% [markdown]
# What the recogniser heard:

# %%
i = test.index(example)
print("spoken:", example.text)
for name in features:
    posterior = senone.posteriors(judge.model, [judge.normalise(senone.splice(senone.add_deltas(features[name][i])))])[0]
    print(f"{name:>12}: {senone.decode(np.log(posterior + 1e-10) - np.log(judge.prior))}")

# %% [markdown]
# ## 11. Look: features and residual

# %%
shown = {"noisy": features["noisy"][i], "FM": features["FM (D off)"][i], "AFM": features["AFM (D on)"][i], "clean": clean_features[i]}
shown["AFM minus clean"] = shown["AFM"] - shown["clean"]
fig, axes = plt.subplots(5, 1, figsize=(9, 7.5), sharex=True, layout="constrained")
for ax, (name, values) in zip(axes, shown.items()):
    limits = dict(cmap="RdBu_r", vmin=-6, vmax=6) if "minus" in name else dict(cmap="magma", vmin=-14, vmax=4)
    image = ax.imshow(values.T, origin="lower", aspect="auto", extent=(0, len(values) * senone.HOP_SECONDS, 0, 29), **limits)
    ax.set_title(name, loc="left")
    ax.set_ylabel("mel band")
    fig.colorbar(image, ax=ax, label="ln")
axes[-1].set_xlabel("time (s)")
plt.show()

# %% [markdown]
# *The picture: mapped features have formants where the noise covered them, and black pauses. In the lowest panel red is too loud, blue too
# soft. The largest errors are stripes at the edges of words: pauses of this synthetic corpus are digital silence, ln(1e-8) = -18.4, so a
# word that begins 30 ms early costs more in $L_F$ than a blurred vowel.*
#
# ## 12. Listen again, and a warning
#
# AFM makes features, not sound. As a listening aid `enhance` turns the difference between mapped and noisy features into gains on the
# noisy STFT. 29 bands are wider than the gaps between the harmonics of a voice, so noise stays there. Do not judge AFM by PESQ.

# %%
viz.player(afm.enhance(noisy, rate)[: 2 * rate], rate, "AFM, through gains")

# %%
some = test[:: max(len(test) // 6, 1)]
tables = {}
rows = {"noisy": lambda wav, r: wav, "Wiener": BASELINES["Wiener"], "FM (D off), gains": fm.enhance, "AFM (D on), gains": afm.enhance}
if "afm" in ganse_tf.presets.names():
    rows["released afm (real speech), gains"] = ganse_tf.from_preset("afm").enhance
for label, enhance in rows.items():
    scored = ((p.name, p.clean, enhance(p.noisy, p.sample_rate), p.sample_rate) for p in some)
    tables[label] = metrics.score_pairs(scored, ("si_sdr", "pesq_wb", "stoi"), progress=False)
Markdown(metrics.markdown(tables))

# %% [markdown]
# **The paper against ours.** On real noisy speech of CHiME-3 a clean DNN recogniser makes 29.44 % word errors; with FM 25.81 %, with AFM
# 24.45 %: 5.3 % fewer than FM, by D alone. On simulated noise a multi-condition LSTM makes 19.28 %, SA-FM 18.51 %, SA-AFM 17.38 %. The two
# tables have different test sets and recognisers and must not be compared with each other. Theirs: 8738 utterances, 3012 senones, a
# 5000-word task, F with 3.07 million weights. Ours: synthetic digits and minutes. That mapping helps a clean recogniser is plain in table A
# above; whether D helps on top is a difference of a few percent that one short run cannot settle: repeat it with other seeds
# before you believe it.
#
# ## Exercises
#
# 1. **(easy)** Papers quote *relative* error reductions. Write the function; it must give 16.95 % for 29.44 -> 24.45.
# 2. **(medium)** Write $L_F$ with a mask: sum over bands, mean over valid frames.
# 3. **(hard)** Write the gradient reversal layer with `tf.custom_gradient`. Then set $\lambda$ to 1, 10 and 100 in section 8 and plot
#    $L_F$ and senone error against $\lambda$. Where does deceiving D begin to cost more than it brings?

# %%
from ganse_tf.classroom import check, describe

print(describe("nb09.relative_reduction"))
check("nb09.relative_reduction", lambda before, after: before - after)  # replace by your function

# %%
print(describe("nb09.masked_error"))
check("nb09.masked_error", lambda clean, mapped, mask: tf.reduce_mean((clean - mapped) ** 2))  # replace by your function

# %%
print(describe("a3.gradient_reversal"))
check("a3.gradient_reversal", lambda x, scale: -scale * x)  # replace by your function
