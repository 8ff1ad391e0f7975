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
# # Start here: listen, look, enhance, score
#
# **Title:** Start here · **Description:** a noisy recording, three ways to clean it, and how to tell which is best ·
# **Accelerator:** none needed · **Time:** under 3 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/00_start_here.ipynb)
#
# After this notebook you can
# 1. load a noisy recording, listen to it and read its spectrogram;
# 2. enhance it with a classical method and with released GAN models;
# 3. score the results with PESQ, STOI and SI-SDR, and say what each score hears.
#
# Everything here is offline: the speech is synthetic (espeak-ng) and ships with the package, the noise is made by code.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %% [markdown]
# ## 1. A noisy recording
#
# The toy corpus has test speakers that no model has heard. `toy_pairs` mixes them with noise at a chosen
# signal-to-noise ratio: 5 dB means that the speech has about three times the power of the noise.

# %%
from ganse_tf import data, viz

pairs = data.toy_pairs("test", n=4, snr_db=(5,), kinds=("engine", "speech_shaped", "wind", "babble"), seed=3)
pair = pairs[0]
noisy, clean, rate = pair.load()
print(f"{pair.name}: {len(noisy) / rate:.1f} s at {rate} Hz, {pair.noise} noise at {pair.snr_db:.0f} dB SNR")
print("Spoken text:", pair.text)

# %%
viz.player(noisy, rate, "noisy")

# %%
viz.player(clean, rate, "clean")

# %% [markdown]
# A **spectrogram** shows time from left to right, frequency from bottom to top, and level as brightness. Speech has
# stripes (the harmonics of the voice) that move; steady noise fills the gaps between them.

# %%
fig = viz.triptych(noisy, clean, sample_rate=rate, titles=("noisy", "clean"))
viz.show(fig)

# %% [markdown]
# ## 2. Enhance it
#
# Three candidates: a Wiener filter from before deep learning (it estimates the noise and turns down what looks like it),
# and the released models. `enhance` takes any length and rate, mono or stereo, and gives back the same.

# %%
from ganse_tf.downstream.classical import BASELINES

systems = {"Wiener": BASELINES["Wiener"]}
for name in ganse_tf.presets.names():
    model = ganse_tf.from_preset(name)
    if model.outputs == "speech":
        systems[name] = model.enhance
print(list(systems))

# %%
enhanced = {name: enhance(noisy, rate) for name, enhance in systems.items()}
best = "metricgan" if "metricgan" in enhanced else "Wiener"
fig = viz.triptych(noisy, enhanced[best], clean, rate, titles=("noisy", best, "clean"))
viz.show(fig)

# %% [markdown]
# **Listen for** what is left of the noise in the pauses, and for what happened to the voice: is it duller, does it ring?

# %%
viz.player(enhanced[best], rate, best)

# %%
viz.player(enhanced["Wiener"], rate, "Wiener filter")

# %% [markdown]
# ## 3. Score it
#
# | score | hears | range | better |
# |---|---|---|---|
# | PESQ-WB | perceived quality, wide band (ITU-T P.862.2) | 1 to 4.64 | higher |
# | STOI | how much of the speech can be understood | 0 to 1 | higher |
# | SI-SDR | power of the clean signal over everything else, in dB | no limits | higher |
#
# One file proves nothing: the table below is over four files, and a real test set has hundreds.

# %%
from ganse_tf import metrics

names = ("pesq_wb", "stoi", "si_sdr")
tables = {}
for label, enhance in {"noisy": lambda wav, rate: wav, **systems}.items():
    items = []
    for p in pairs:
        wav, target, r = p.load()
        items.append((p.name, target, enhance(wav, r), r))
    tables[label] = metrics.score_pairs(items, names, progress=False)

from IPython.display import Markdown

Markdown(metrics.markdown(tables))

# %%
fig = viz.bar_scores(tables, names)
viz.show(fig)

# %% [markdown]
# **Checkpoint.** Which system has the best PESQ, and does it have the best SI-SDR too? If the answers differ, which one would
# you rather listen to?
#
# <details><summary>What to think about</summary>
# PESQ compares loudness patterns as an ear might, SI-SDR compares samples. A system trained for one may neglect the other:
# MetricGAN climbs PESQ, SEGAN minimises a sample-by-sample error. Notebook 02 takes the scores apart.
# </details>

# %% [markdown]
# ## 4. Your own recording
#
# Put a WAV, FLAC, OGG or MP3 file next to this notebook, change the name, and run. Or on the command line:
# `ganse-tf enhance noisy.wav clean.wav --model metricgan`.

# %%
from pathlib import Path

from ganse_tf import audio

my_file = "my_recording.wav"
if Path(my_file).exists():
    wav, wav_rate = audio.read(my_file)
    audio.write("my_recording_enhanced.wav", systems[best](wav, wav_rate), wav_rate)
else:
    print(f"{my_file} is not here yet; nothing to do.")

# %% [markdown]
# ## Exercises
#
# 1. **(easy)** Change `snr_db` to 0 and to 15 and run everything again. Where does the Wiener filter help most?
# 2. **(medium)** Write `mix(clean, noise, snr_db)` yourself and check it:

# %%
from ganse_tf.classroom import check, describe

print(describe("a2.mix"))
check("a2.mix", lambda clean, noise, snr_db: clean + noise)  # replace by your function

# %% [markdown]
# 3. **(hard)** Enhance an already enhanced file again, ten times in a row, and plot PESQ against the number of passes. Explain
#    the curve.
