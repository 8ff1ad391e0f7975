"""SSNR, LLR, WSS and the composite ratings, frame by frame as Loizou's MATLAB file `composite.m` computes them (NumPy).

Every published table of CSIG, CBAK and COVL was made with that file or a copy of it, so its habits are kept: frames of
30 ms with a hop of a quarter, one frame fewer than fits, eps added to both signals, the best 95 % of the frames for LLR
and WSS, and a peak search that stops one band early. `ganse_tf.metrics` holds the functions to call; this file holds
what they mean. All functions work on many frames at once.

References: Hu & Loizou, "Evaluation of objective quality measures for speech enhancement", IEEE TASLP 16(1), 2008;
Klatt, "Prediction of perceived phonetic distance from critical-band spectra", ICASSP 1982.
"""

import functools
import math

import numpy as np

EPS = np.finfo(np.float64).eps  # 2**-52, MATLAB's eps
FRAME_SECONDS = 0.030
KEPT_SHARE = 0.95
SSNR_RANGE_DB = (-10.0, 35.0)
FLOOR_POWER = 1e-10  # -100 dB, floor of a band's energy
K_MAX, K_LOCAL = 20.0, 1.0  # Klatt's weights of the global and the nearest peak
BLOCK = 256  # frames worked on at once: stays in the cache, and an hour of sound in memory
ROWS = 32  # of a matrix product: so small that BLAS starts no threads, which cost more where a training fills the cores

# Centres and bandwidths in Hz of the 25 critical bands of WSS
BAND_CENTRES = np.array([
    50.0, 120.0, 190.0, 260.0, 330.0, 400.0, 470.0, 540.0, 617.372, 703.378, 798.717, 904.128, 1020.38, 1148.30,
    1288.72, 1442.54, 1610.70, 1794.16, 1993.93, 2211.08, 2446.71, 2701.97, 2978.04, 3276.17, 3597.63,
])  # fmt: skip
BAND_WIDTHS = np.array([
    70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 70.0, 77.3724, 86.0056, 95.3398, 105.411, 116.256, 127.914, 140.423, 153.823,
    168.154, 183.457, 199.776, 217.153, 235.631, 255.255, 276.072, 298.126, 321.465, 346.136,
])  # fmt: skip


# ---- frames ----------------------------------------------------------------------------------------------------------


def matlab_round(value):
    """Round half up, as MATLAB does for positive numbers (Python rounds half to even)."""
    return math.floor(value + 0.5)


def frame_length(sample_rate):
    """Samples of a 30-ms frame."""
    return matlab_round(FRAME_SECONDS * sample_rate)


def frame_count(n_samples, sample_rate):
    """Number of frames: MATLAB's loop runs to N/S - W/S, one frame fewer than fits."""
    length = frame_length(sample_rate)
    return max((n_samples - length) // max(length // 4, 1), 0)


def frames(clean, enhanced, sample_rate):
    """Yield windowed frames of both float64 signals in blocks, each (<= BLOCK, frame length)."""
    length, n_frames = frame_length(sample_rate), frame_count(len(clean), sample_rate)
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(1, length + 1) / (length + 1)))
    views = [np.lib.stride_tricks.sliding_window_view(w + EPS, length)[:: length // 4] for w in (clean, enhanced)]
    for start in range(0, n_frames, BLOCK):
        yield tuple(v[start : min(start + BLOCK, n_frames)] * window for v in views)


def mean_of_best(values):
    """Mean of the smallest 95 % of the frames; frames without a value (NaN) sort last."""
    return np.sort(values)[: max(matlab_round(KEPT_SHARE * len(values)), 1)].mean()


# ---- the three measures, one value per frame -------------------------------------------------------------------------


def ssnr_frames(clean, enhanced, sample_rate):
    """SNR of every frame in dB, 10 log10(sum (ws)^2 / sum (w(s - y))^2), limited to [-10, 35]."""
    values = []
    for s, y in frames(clean, enhanced, sample_rate):
        signal, error = np.square(s).sum(axis=1), np.square(s - y).sum(axis=1)
        values.append(np.clip(10 * np.log10(signal / (error + EPS) + EPS), *SSNR_RANGE_DB))
    return np.concatenate(values)


def llr_frames(clean, enhanced, sample_rate):
    """Log-likelihood ratio of every frame, ln((A_y R A_y') / (A_s R A_s')), R the Toeplitz matrix of the clean "
    "frame."""
    order = 16 if sample_rate >= 10000 else 10
    lags = np.abs(np.subtract.outer(np.arange(order + 1), np.arange(order + 1)))
    values = []
    with np.errstate(divide="ignore", invalid="ignore"):  # a frame without a solution becomes NaN
        for s, y in frames(clean, enhanced, sample_rate):
            r_clean, r_enhanced = autocorrelation(s, order), autocorrelation(y, order)
            toeplitz = r_clean[:, lags]
            own, other = (np.einsum("fi,fij,fj->f", a, toeplitz, a) for a in (levinson(r_clean), levinson(r_enhanced)))
            values.append(np.log(other / own))
    return np.concatenate(values)


def wss_frames(clean, enhanced, sample_rate):
    """Weighted spectral slope distance of every frame, sum W (slope_s - slope_y)^2 / sum W over 24 band pairs."""
    n_fft = 2 ** math.ceil(math.log2(2 * frame_length(sample_rate)))
    values = []
    for pair in frames(clean, enhanced, sample_rate):
        slopes, weights = zip(*(slopes_and_weights(band_energies(x, sample_rate, n_fft)) for x in pair))
        weight = (weights[0] + weights[1]) / 2
        values.append((weight * np.square(slopes[0] - slopes[1])).sum(axis=1) / weight.sum(axis=1))
    return np.concatenate(values)


def ratings(pesq, llr, wss, ssnr):
    """The predicted listener ratings (CSIG, CBAK, COVL), each limited to 1 ... 5 (Hu & Loizou 2008, table IV)."""
    csig = 3.093 - 1.029 * llr + 0.603 * pesq - 0.009 * wss
    cbak = 1.634 + 0.478 * pesq - 0.007 * wss + 0.063 * ssnr
    covl = 1.594 + 0.805 * pesq - 0.512 * llr - 0.007 * wss
    return tuple(min(max(value, 1.0), 5.0) for value in (csig, cbak, covl))


# ---- their parts -----------------------------------------------------------------------------------------------------


def autocorrelation(x, order):
    """Lags 0 ... order of every row of x, (frames, order + 1)."""
    width = x.shape[1]
    return np.stack([np.einsum("fn,fn->f", x[:, : width - k], x[:, k:]) for k in range(order + 1)], axis=1)


def levinson(r):
    """Prediction-error filters A = [1, -a_1, ... -a_P] of every row of autocorrelations (Levinson-Durbin)."""
    a = np.zeros_like(r)
    a[:, 0] = 1.0
    error = r[:, 0].copy()
    for i in range(1, r.shape[1]):
        reflection = -np.einsum("fk,fk->f", a[:, :i], r[:, i:0:-1]) / error
        a[:, 1 : i + 1] += reflection[:, None] * a[:, :i][:, ::-1]
        error *= 1 - reflection**2
    return a


@functools.lru_cache(maxsize=8)
def critical_bands(sample_rate, n_fft):
    """Gaussian filters of equal area, zero below -30 dB, (bins up to the last one in use, 25)."""
    hz_per_bin = sample_rate / n_fft
    distance = np.arange(n_fft // 2)[:, None] - np.floor(BAND_CENTRES / hz_per_bin)
    gain = np.exp(-11 * np.square(distance / (BAND_WIDTHS / hz_per_bin)) + np.log(BAND_WIDTHS[0] / BAND_WIDTHS))
    gain = np.where(gain > np.exp(-30 / (2 * 2.303)), gain, 0.0)
    return gain[: np.flatnonzero(gain.any(axis=1))[-1] + 1]


def band_energies(x, sample_rate, n_fft):
    """Energy of every frame in the 25 bands in dB, (frames, 25)."""
    bands = critical_bands(sample_rate, n_fft)
    spectrum = np.fft.rfft(x, n_fft)[:, : len(bands)]
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    energy = np.concatenate([power[i : i + ROWS] @ bands for i in range(0, len(power), ROWS)])
    return 10 * np.log10(np.maximum(energy, FLOOR_POWER))


def slopes_and_weights(energy):
    """Slopes in dB to the next band, and weights that favour bands near the strongest and the nearest peak, (frames, "
    "24)."""
    slope, lower = np.diff(energy), energy[:, :-1]
    rising, n_slopes = slope > 0, slope.shape[1]
    peak = lower.copy()
    for i in range(1, n_slopes):  # falling: the nearest peak is to the left
        peak[:, i] = np.where(~rising[:, i] & ~rising[:, i - 1], peak[:, i - 1], peak[:, i])
    for i in range(n_slopes - 2, -1, -1):  # rising: to the right, where composite.m stops one band before the peak
        peak[:, i] = np.where(rising[:, i] & rising[:, i + 1], peak[:, i + 1], peak[:, i])
    weight = K_MAX / (K_MAX + energy.max(axis=1, keepdims=True) - lower) * K_LOCAL / (K_LOCAL + peak - lower)
    return slope, weight
