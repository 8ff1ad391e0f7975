"""Speech as a statistical synthesiser would make it: over-smoothed in frequency and time. The post-filter's input.

The GAN post-filter turns the output of a text-to-speech system into natural speech; there is no additive noise. Without
the paper's synthesiser, its two faults are made by hand (our choice):

    log amplitude --cepstrum--> keep 40 coefficients (envelope) and the pitch peak (comb) --> mean over 5 frames

then back to a waveform, from the natural phase on with a few rounds of Griffin and Lim's iteration (the natural phase alone
would bring much of the texture back), at the level of the natural speech. What is lost is the fine texture that the
post-filter must restore.
"""

import numpy as np

from ganse_tf.data import Pair

SAMPLE_RATE = 16000  # Hz
N_FFT = 512
WIN_LENGTH = 400  # 25 ms
HOP_LENGTH = 80  # 5 ms
N_CEPSTRA = 40
PITCH_S = (0.0025, 0.0125)  # 400 to 80 Hz
PITCH_WIDTH = 2  # quefrency samples kept on both sides of the peak
N_FRAMES = 5
FLOOR = 1e-5
MODULATION_FRAMES = 64  # 0.32 s
ITERATIONS = 8  # rounds of Griffin and Lim's iteration


def oversmooth(wav):
    """Over-smoothed version of a waveform at 16 kHz: float (n,) -> float32 (n,)."""
    from scipy import signal

    settings = {"nperseg": WIN_LENGTH, "noverlap": WIN_LENGTH - HOP_LENGTH, "nfft": N_FFT}
    _, _, spec = signal.stft(np.asarray(wav, np.float64), **settings)
    log_amplitude = np.log(np.maximum(np.abs(spec), FLOOR))
    cepstrum = np.fft.irfft(log_amplitude, axis=0)  # (n_fft, frames), symmetric
    kept = np.zeros(cepstrum.shape, bool)
    kept[:N_CEPSTRA] = True
    low, high = (round(s * SAMPLE_RATE) for s in PITCH_S)
    peak = low + np.argmax(cepstrum[low:high], axis=0)
    for step in range(-PITCH_WIDTH, PITCH_WIDTH + 1):
        kept[peak + step, np.arange(len(peak))] = True
    half = N_FFT // 2
    kept[half + 1 :] = kept[1:half][::-1]  # the mirror image, so that the spectrum stays real
    smooth = np.fft.rfft(np.where(kept, cepstrum, 0.0), axis=0).real
    kernel = np.full(N_FRAMES, 1 / N_FRAMES)
    padded = np.pad(smooth, [(0, 0), (N_FRAMES // 2, N_FRAMES // 2)], mode="edge")
    smooth = np.apply_along_axis(np.convolve, 1, padded, kernel, mode="valid")
    target = np.exp(smooth)
    for _ in range(ITERATIONS):
        _, out = signal.istft(target * np.exp(1j * np.angle(spec)), **settings)
        _, _, spec = signal.stft(out, **settings)
    out = np.pad(out, (0, max(0, len(wav) - len(out))))[: len(wav)]
    return (out * np.std(wav) / max(np.std(out), FLOOR)).astype(np.float32)


def pairs(speech):
    """Pairs (over-smoothed, natural) for the post-filter from natural speech at 16 kHz.

    Args:
        speech: utterances as ``data.toy_corpus`` gives them: anything with name, wav, sample_rate, speaker and split.

    Returns:
        list of ``data.Pair``; `noisy` is the over-smoothed waveform, `clean` the natural one.

    Raises:
        ValueError: an utterance is not at 16 kHz.

    Example:
        >>> pairs(data.toy_corpus("test")[:1])[0].noise
        'oversmoothed'
    """
    made = []
    for u in speech:
        if u.sample_rate != SAMPLE_RATE:
            raise ValueError(f"{u.name} is at {u.sample_rate} Hz; over-smoothing works at {SAMPLE_RATE}: resample it first.")
        made.append(Pair(u.name, oversmooth(u.wav), u.wav, u.sample_rate, speaker=u.speaker, noise="oversmoothed",
                         split=u.split))  # fmt: skip
    return made


def variance_ratio(natural, made):
    """Global variance of log amplitudes (frames, bins), made / natural, per bin: 1 is natural, below 1 over-smoothed."""
    return np.var(made, axis=0) / np.maximum(np.var(natural, axis=0), FLOOR)


def modulation_distance(natural, made, length=MODULATION_FRAMES):
    """RMS difference (dB) of modulation spectra: power of log amplitudes (frames, bins) along time, mean over segments."""

    def spectrum(x):
        segments = x[: len(x) // length * length].reshape(-1, length, x.shape[1])
        segments = (segments - segments.mean(1, keepdims=True)) * np.hanning(length)[:, None]
        power = np.square(np.abs(np.fft.rfft(segments, axis=1))).mean(0)[1:]  # (length / 2, bins), without its DC
        return 10 * np.log10(power + FLOOR)

    if len(natural) < length or natural.shape != made.shape:
        raise ValueError(f"Got shapes {natural.shape} and {made.shape}; both need the same >= {length} frames.")
    return float(np.sqrt(np.mean(np.square(spectrum(natural) - spectrum(made)))))
