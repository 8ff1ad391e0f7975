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
# # Sound and spectrograms
#
# **Title:** Sound and spectrograms · **Description:** STFT, mel, gammatone, masks, phase and mixing at an SNR, each with a picture
# and a sound · **Accelerator:** none needed · **Time:** under 2 minutes on 2 CPU cores
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks/01_sound_and_spectrograms.ipynb)
#
# After this notebook you can
# 1. turn a waveform into a spectrogram and back without loss, and choose window and hop on purpose;
# 2. say what mel and gammatone bands keep and what they throw away;
# 3. mix speech and noise at an exact SNR, compute ideal masks, and say how much of the rest is phase.

# %%
#@title Setup (about 30 s on Colab, no restart needed)
import importlib.util

if importlib.util.find_spec("ganse_tf") is None:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/ganse-tf/ganse_tf")

import ganse_tf
ganse_tf.check_setup()

# %%
#@title Settings
noise_kind = "babble"  #@param ["white", "pink", "speech_shaped", "babble", "engine", "clicks", "wind"]
snr_db = 5.0  #@param {type:"slider", min:-10, max:30}
seed = 1  #@param {type:"integer"}

# %% [markdown]
# ## 1. A sound is a list of numbers
#
# A microphone measures air pressure; the computer notes it 16000 times per second (16 kHz). Full scale is 1. Such a list can hold
# frequencies up to half the rate, 8 kHz.

# %%
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf

from ganse_tf import data, metrics, noises, signal, viz

plt.rcParams["figure.dpi"] = 80  # dots per inch: keeps this file small
speech = next(u for u in data.toy_corpus("test") if u.name == "m08_d06")
clean, rate = speech.wav, speech.sample_rate
print(f"{speech.text!r}: {clean.dtype}, {clean.shape[0]} samples = {len(clean) / rate:.2f} s; loudest sample {np.abs(clean).max():.2f}")
viz.player(clean, rate, "clean speech (synthetic voice)")

# %%
word, start, end = speech.words[1]
seconds = np.arange(len(clean)) / rate
fig, (whole, part) = plt.subplots(1, 2, figsize=(9, 2.4), layout="constrained")
whole.plot(seconds, clean, linewidth=0.5, color=viz.COLOURS[2])
whole.axvspan(start, end, color="0.85", zorder=0)
middle = slice(int((start + 0.12) * rate), int((start + 0.16) * rate))
part.plot(1000 * (seconds[middle] - seconds[middle][0]), clean[middle], color=viz.COLOURS[2])
whole.set(xlabel="time (s)", ylabel="amplitude", title=f"{speech.text}; grey: '{word}'")
part.set(xlabel="time (ms)", title=f"40 ms of '{word}'")
viz.show(fig, f"Waveform of '{speech.text}', and 40 ms of '{word}' enlarged: the voice repeats the same wiggle, one period after the other.")

# %% [markdown]
# **Predict, then run:** count the periods in the 40 ms on the right. About how many hertz is the pitch of this voice?

# %%
piece = clean[middle] - clean[middle].mean()
match = np.correlate(piece, piece, "full")[len(piece) - 1 :]
low, high = rate // 300, rate // 60  # search between 300 and 60 Hz
period = low + int(match[low:high].argmax())
print(f"the waveform repeats after {period} samples = {1000 * period / rate:.1f} ms: {rate / period:.0f} Hz")

# %% [markdown]
# ## 2. The short-time Fourier transform (STFT)
#
# Speech changes all the time, so we cut it into short overlapping frames, fade each one in and out with a **window**, and ask which
# frequencies are in it:
#
# $$X[t,k] = \sum_n w[n]\, x[n + tH]\, e^{-2\pi i k n/N}$$
#
# $N$ is the length of a frame (`n_fft`), $H$ the **hop** from frame to frame. The result is complex: magnitude and phase.

# %%
n_fft, hop = 512, 128  # 32 ms and 8 ms
spec = signal.stft(clean, n_fft, hop)
print("STFT", spec.shape, spec.dtype, f"= (frames, bins); a frame every {1000 * hop / rate:.0f} ms, a bin every {rate / n_fft:.2f} Hz")

frame = clean[middle.start : middle.start + n_fft]
window = signal.window_samples("hann", n_fft)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained")
left.plot(1000 * np.arange(n_fft) / rate, frame, color="0.6", label="frame")
left.plot(1000 * np.arange(n_fft) / rate, frame * window, color=viz.COLOURS[2], linestyle="--", label="frame x window")
left.set(xlabel="time (ms)", ylabel="amplitude", title="one frame of 32 ms")
left.legend(loc="lower right", fontsize=8)
level = 20 * np.log10(np.abs(np.fft.rfft(frame * window)) + 1e-6)
right.plot(np.fft.rfftfreq(n_fft, 1 / rate) / 1000, level - level.max(), color=viz.COLOURS[2])
right.set(xlabel="frequency (kHz)", ylabel="dB re loudest", ylim=(-80, 3), title="its spectrum")
viz.show(fig, "Left: one frame before and after the Hann window, which fades its ends to zero. Right: its spectrum, "
         "with teeth at the multiples of the pitch.")

# %% [markdown]
# Many such columns side by side are a **spectrogram**. The length of the window is a compromise: a long one separates
# frequencies, a short one separates instants. You cannot have both.

# %%
fig, axes = plt.subplots(2, 1, figsize=(8, 4.6), sharex=True, layout="constrained")
for ax, size in zip(axes, (128, 1024)):
    viz.spectrogram(clean, rate, ax=ax, n_fft=size, hop_length=64, title=f"window {size} samples = {1000 * size / rate:.0f} ms")
axes[0].set_xlabel("")
viz.show(fig)

# %% [markdown]
# *8 ms: vertical lines, every period of the voice is an event of its own. 64 ms: horizontal lines, the harmonics. The papers of
# this course use 20 to 32 ms.*
#
# **The way back.** `istft` overlaps and adds the frames and divides by what the windows add up to. If nothing was changed, nothing
# is lost. If something was changed, we hear it: below, all bins above 2 kHz are set to zero.

# %%
back = signal.istft(spec, len(clean), n_fft, hop).numpy()
print(f"round trip: largest error {np.abs(back - clean).max():.1e} (16-bit step: {2**-15:.1e})")
bins_hz = np.arange(n_fft // 2 + 1) * rate / n_fft
muffled = signal.istft(tf.where(bins_hz < 2000, spec, 0), len(clean), n_fft, hop).numpy()
viz.player(muffled, rate, "everything above 2 kHz removed")

# %% [markdown]
# **Listen for** the s in "seven": most of it lived above 2 kHz.
#
# ## 3. Mel: bands as wide as the ear wants them
#
# 257 bins of equal width waste resolution at high frequencies, where the ear is coarse. The mel scale,
# $m = 2595 \log_{10}(1 + f/700)$, spaces bands evenly for the ear. FSEGAN and the recognisers see mel bands.

# %%
n_mels = 24
mel = signal.mel_matrix(n_mels, n_fft, rate, fmin=60.0, fmax=8000.0)
mag = signal.magnitude(spec)
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for i in range(n_mels):
    left.plot(bins_hz / 1000, mel[:, i], color=viz.COLOURS[2], linestyle=viz.DASHES[i % 2], linewidth=1)
left.set(xlabel="frequency (kHz)", ylabel="weight", title=f"{n_mels} mel bands over {len(bins_hz)} bins")
log_mel = np.log(np.maximum(mag @ mel, 1e-6))
image = right.imshow(log_mel.T, origin="lower", aspect="auto", cmap="magma", extent=(0, len(clean) / rate, 0, n_mels))
right.set(xlabel="time (s)", ylabel="mel band", title="log-mel spectrogram")
fig.colorbar(image, ax=right, label="ln magnitude")
viz.show(fig, f"Left: {n_mels} triangles that grow wider with frequency. Right: the log-mel spectrogram, {log_mel.shape[0]} frames by {n_mels} bands.")

# %% [markdown]
# What did the bands throw away? Spread each band evenly over its bins again, keep the phase, and listen.

# %%
share = mel / np.maximum(mel.sum(1, keepdims=True), 1e-9)  # of each bin, which band it belongs to
mean = (mag @ mel) / mel.sum(0)  # mean magnitude of each band
smooth = tf.tensordot(mean, share.T.astype(np.float32), 1)
from_mel = signal.istft(signal.with_phase_of(smooth, spec), len(clean), n_fft, hop).numpy()
viz.player(from_mel, rate, f"from {n_mels} mel bands (original phase)")

# %% [markdown]
# The vowels are still there; the voice is hoarse, because neighbouring harmonics have been melted together.
#
# ## 4. Gammatone: the filters of the inner ear
#
# A gammatone filterbank works in the time domain: each band is the sound through one filter that rings like a place on the basilar
# membrane. MMSE-GAN uses 64 of them.

# %%
centres, responses = signal.gammatone_filters(sample_rate=rate)
bands = signal.gammatone_analysis(clean)
envelope = signal.gammatone_envelope(bands)
print("bands", bands.shape, "= (channels, time); envelope", envelope.shape, "= (frames, channels)")
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for i, channel in enumerate((10, 34, 50)):
    left.plot(1000 * np.arange(320) / rate, responses[channel, :320] / np.abs(responses[channel]).max() - 2.2 * i,
              color=viz.COLOURS[i])
left.set_yticks([0, -2.2, -4.4], [f"{centres[channel]:.0f} Hz" for channel in (10, 34, 50)])
left.set(xlabel="time (ms)", title="three impulse responses")
image = right.imshow(np.log(envelope).T, origin="lower", aspect="auto", cmap="magma", extent=(0, len(clean) / rate, 0, len(centres)), vmin=-12)
right.set(xlabel="time (s)", ylabel="channel (50 Hz to 8 kHz)", title="cochleagram")
fig.colorbar(image, ax=right, label="ln envelope")
viz.show(fig, "Left: three gammatone responses; the higher the centre frequency, the shorter the ring. Right: the cochleagram of the sentence, "
         "64 channels spaced as in the ear.")

# %%
whole_again = signal.gammatone_synthesis(bands).numpy()
print(f"all 64 bands added up again: SI-SDR {metrics.si_sdr(clean, whole_again, rate):.1f} dB (nearly, not exactly, the input)")
few = signal.gammatone_synthesis(bands, mask=np.ones(envelope.shape, np.float32) * (np.arange(len(centres)) % 4 == 0)).numpy()
viz.player(few, rate, "every fourth gammatone band only")

# %% [markdown]
# ## 5. Mixing at an SNR
#
# $$\text{noisy} = \text{clean} + g\,\text{noise}, \qquad g = \sqrt{\frac{\sum \text{clean}^2}{\sum \text{noise}^2 \cdot 10^{\text{SNR}/10}}}$$
#
# **Predict, then run:** at 0 dB speech and noise have the same power. What is $g$ for +20 dB, compared with 0 dB?

# %%
noise = noises.make(noise_kind, len(clean), rate, seed=seed)
mixtures = {}
for level in (0, 10, 20):
    noisy, target = data.mix(clean, noise, level, seed=seed)
    mixtures[level] = noisy
    added = noisy - target
    print(f"asked for {level:2d} dB, got {10 * np.log10(np.sum(target**2) / np.sum(added**2)):6.3f} dB; "
          f"g = {np.sqrt(np.mean(added**2) / np.mean(noise**2)):.4f}")

# %%
fig = viz.triptych(mixtures[0], mixtures[10], mixtures[20], rate, titles=(f"{noise_kind} at 0 dB", "10 dB", "20 dB"))
viz.show(fig)

# %%
viz.player(mixtures[0], rate, f"{noise_kind} at 0 dB")

# %% [markdown]
# The SNR is a ratio of *powers over the whole utterance*: a pause has no speech and a bad SNR, a vowel a good one. That is why one
# number per file does not say how hard a file is.
#
# ## 6. Masks: what an enhancer may ideally do
#
# Most enhancers multiply every point of the noisy spectrogram by a gain. If we know clean speech $S$ and noise $N$ (here we do, we
# mixed them), we can compute the best gain there is. With $Y = S + N$:
#
# | mask | formula | used by |
# |---|---|---|
# | ideal ratio mask | $\sqrt{\lvert S\rvert^2/(\lvert S\rvert^2+\lvert N\rvert^2)}$ | DNN-GAN |
# | spectral magnitude mask | $\lvert S\rvert/\lvert Y\rvert$, clipped | DNN-GAN |
# | phase-sensitive mask | $\mathrm{Re}(S/Y)$, clipped to 0 ... 1 | comparison |

# %%
noisy, target = data.mix(clean, noise, snr_db, seed=seed)
S, Y = signal.stft(target, n_fft, hop), signal.stft(noisy, n_fft, hop)
N = Y - S
masks = {
    "ideal ratio mask": signal.irm(tf.abs(S), tf.abs(N)),
    "spectral magnitude mask": signal.smm(tf.abs(S), tf.abs(Y)),
    "phase-sensitive mask": signal.psm(S, Y),
}
fig, axes = plt.subplots(3, 1, figsize=(8, 6.4), sharex=True, layout="constrained")
for ax, (name, mask) in zip(axes, masks.items()):
    viz.mask(mask, rate, hop, ax=ax, title=name, vmax=1)
    ax.set_xlabel("time (s)" if ax is axes[-1] else "")
viz.show(fig)

# %% [markdown]
# *Bright: keep. Dark: remove. All three find the harmonics; the magnitude mask also exceeds 1 (drawn as 1) where speech and
# noise cancel.*

# %%
def apply(mask):
    return signal.istft(tf.cast(mask, tf.complex64) * Y, len(noisy), n_fft, hop).numpy()


def row(wav):
    return metrics.score(target, wav, rate, ("pesq_wb", "stoi", "si_sdr"))


print(f"{'':26s} PESQ-WB  STOI  SI-SDR")
for name, wav in {"noisy": noisy, **{name: apply(mask) for name, mask in masks.items()}}.items():
    s = row(wav)
    print(f"{name:26s} {s['pesq_wb']:7.2f} {s['stoi']:5.2f} {s['si_sdr']:7.1f}")
viz.player(apply(masks["phase-sensitive mask"]), rate, f"{noise_kind} at {snr_db:.0f} dB after the phase-sensitive mask")

# %% [markdown]
# A network that learns to predict such a mask can at best come close to its row. The masks here cheat: they know the clean speech.
#
# ## 7. What is left is phase
#
# A mask changes magnitudes and keeps the noisy phase. How much does that cost? Put the *clean* magnitude together with four
# different phases.

# %%
def with_phase(mag, phase):
    return signal.istft(signal.polar(mag, phase), len(noisy), n_fft, hop).numpy()


rng = np.random.default_rng(seed)
phases = {
    "clean phase": tf.math.angle(S),
    "noisy phase": tf.math.angle(Y),
    "phase zero": tf.zeros(S.shape),
    "random phase": rng.uniform(-np.pi, np.pi, S.shape).astype(np.float32),
}
rebuilt = {name: with_phase(tf.abs(S), phase) for name, phase in phases.items()}
print(f"{'clean magnitude with ...':26s} PESQ-WB  STOI  SI-SDR")
for name, wav in rebuilt.items():
    s = row(wav)
    print(f"{name:26s} {s['pesq_wb']:7.2f} {s['stoi']:5.2f} {s['si_sdr']:7.1f}")

# %%
off = np.angle(np.exp(1j * (np.angle(S) - np.angle(Y))))  # wrapped to -pi ... pi
loud = np.abs(S) > np.abs(N)
fig, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True, layout="constrained")
pictures = ("phase of the clean STFT", np.angle(S), "twilight", -np.pi), ("how far the noisy phase is off", np.abs(off), "cividis", 0)
for ax, (title, values, colours, least) in zip(axes, pictures):
    image = ax.imshow(values.T, origin="lower", aspect="auto", cmap=colours, interpolation="nearest",
                      extent=(0, len(noisy) / rate, 0, rate / 2000), vmin=least, vmax=np.pi)
    ax.set(xlim=(start, start + 0.4), ylim=(0, 4), xlabel="time (s)", title=title)
    fig.colorbar(image, ax=ax, label="rad")
axes[0].set_ylabel("frequency (kHz)")
viz.show(fig, f"Phase of the clean STFT and error of the noisy phase, 0.4 s of the word '{word}'. Mean error {np.abs(off[loud]).mean():.2f} rad "
         f"where speech is louder than noise, {np.abs(off[~loud]).mean():.2f} rad elsewhere (chance would be {np.pi / 2:.2f}).")

# %%
viz.player(rebuilt["random phase"], rate, "clean magnitude, random phase")

# %% [markdown]
# Where speech is loud, the noisy phase is nearly right: that is why masking works at all. Where noise is loud, the magnitude is
# turned down anyway. A random phase smears every frame over its whole length: the voice sounds hollow.
#
# **Checkpoint.** SI-SDR of "phase zero" and "random phase" is terrible, yet you understand every word. Which of the three scores
# agrees with you? (Notebook 02 goes on from here.)
#
# ## Exercises
#
# 1. **(easy)** Pre-emphasis, $y[n] = x[n] - a\,x[n-1]$, is in front of SEGAN and MMSE-GAN. Write it.
# 2. **(medium)** Write the ideal ratio mask. What should it say for silence?
# 3. **(hard)** Write your own STFT and inverse with a Hann window. `istft(stft(x))` must give `x` back for every hop that divides well.
#
# Each cell says "not yet" until your function is right.

# %%
from ganse_tf.classroom import check, describe

print(describe("a2.preemphasis"))
check("a2.preemphasis", lambda wav, coef: wav)  # replace by your function

# %%
print(describe("a2.irm"))
check("a2.irm", lambda clean_mag, noise_mag: clean_mag / noise_mag)  # replace by your function

# %%
print(describe("a2.stft"))


def my_stft(wav, n_fft, hop):
    raise NotImplementedError()


def my_istft(spec, n_fft, hop, length):
    raise NotImplementedError()


check("a2.stft", my_stft, my_istft)
