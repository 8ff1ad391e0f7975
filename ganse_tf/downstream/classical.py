"""Classical single-channel enhancement: the rows every GAN has to beat.

All four estimators follow one recipe: a 32 ms square-root Hann STFT with half overlap, a noise power spectrum tracked
frame by frame, a real gain in [0, 1] per bin, the noisy phase, overlap-add. Only the gain differs. Write gamma for the
a-posteriori SNR |Y|^2 / noise and xi for the decision-directed a-priori SNR 0.98 |X_previous|^2 / noise +
0.02 max(gamma - 1, 0):

    spectral subtraction   G^2 = max(1 - a / gamma, 0.002 / gamma)       a falls with the SNR of the frame
    Wiener                 G = (xi / (1 + xi))^p                         p = 1/2 in Loizou's program, 1 in the theory
    log-MMSE               G = xi / (1 + xi) exp(E1(v) / 2)              v = gamma xi / (1 + xi)
    STSA-MMSE              G = sqrt(pi v) / (2 gamma) exp(-v / 2) ((1 + v) I0(v / 2) + v I1(v / 2))

The noise estimate starts as the mean of the first 120 ms, taken to be noise. `track_noise` then updates it slowly (time
constant 0.8 s) in the frames that a likelihood-ratio speech detector calls noise, and never lets it exceed three times
the quietest smoothed power within 0.75 s, so that a recording may open with speech. Noise that rises suddenly is not
followed: the weakness of this family.

References:
    P. Loizou, "Speech Enhancement: Theory and Practice", 2nd ed., CRC Press 2013, chapters 5-7, 11.2 and its programs.
    M. Berouti, R. Schwartz, J. Makhoul, "Enhancement of speech corrupted by acoustic noise", ICASSP 1979.
    P. Scalart, J. Vieira Filho, "Speech enhancement based on a priori signal to noise estimation", ICASSP 1996.
    Y. Ephraim, D. Malah: STSA-MMSE, IEEE Trans. ASSP 32(6), 1984; log-MMSE, IEEE Trans. ASSP 33(2), 1985.
    R. Martin, "Noise power spectral density estimation based on optimal smoothing and minimum statistics", IEEE Trans.
    Speech and Audio Processing 9(5), 2001.
"""

import numpy as np
import scipy.ndimage
import scipy.signal
import scipy.special

from ganse_tf import audio

FRAME_SECONDS = 0.032
NOISE_SECONDS = 0.12  # Loizou's programs: the first 120 ms hold no speech
DD_ALPHA = 0.98  # weight of the previous frame in the decision-directed a-priori SNR (Ephraim and Malah 1984)
XI_MIN = 10 ** (-25 / 10)  # floor of the a-priori SNR: -25 dB (Loizou, logmmse.m)
GAMMA_MAX = 10 ** (40 / 10)  # ceiling of the a-posteriori SNR: 40 dB (Loizou, logmmse.m)
VAD_THRESHOLD, NOISE_MEMORY = 0.15, 0.98  # eta and mu of Loizou's wiener_as.m
MIN_SMOOTHING, MIN_FRAMES, MIN_FACTOR = 0.85, 94, 3.0  # the cap: 94 frames are 1.5 s (Martin 2001); factor: our choice
SUBTRACTION_FLOOR = 0.002  # beta of Loizou's specsub.m, in units of the noise power
POWER_FLOOR = 1e-12  # digital silence


def spectral_subtraction(wav, sample_rate):
    """Subtracts the noise power, more of it in noisier frames, and leaves a noise floor.

    Over-subtraction a = 4 - 3/20 SNR for a frame SNR between -5 and 20 dB, so a runs from 4.75 down to 1.

    Args:
        wav: noisy waveform, float array (n,) or (n, channels).
        sample_rate: Hz.

    Returns:
        float32 array of the shape of `wav`.

    Raises:
        ganse_tf.audio.AudioError: for sound that is empty, not finite or of the wrong type, and for a bad sample rate.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(size=16000).astype("float32")
        >>> spectral_subtraction(noisy, 16000).shape
        (16000,)

    References:
        Berouti et al. 1979; Loizou, section 5.4 and specsub.m.
    """

    def rule(power, noise, state):
        snr_db = 10 * np.log10(max(power.sum(), POWER_FLOOR) / noise.sum())
        over = 4 - 3 / 20 * np.clip(snr_db, -5, 20)
        rest = np.maximum(power - over * noise, SUBTRACTION_FLOOR * noise)
        return np.sqrt(np.minimum(rest / np.maximum(power, POWER_FLOOR), 1))

    return _enhance(wav, sample_rate, rule)


def wiener(wav, sample_rate, exponent=0.5):
    """Applies the Wiener filter of the decision-directed a-priori SNR, G = (xi / (1 + xi)) ** exponent.

    Args:
        wav: noisy waveform, float array (n,) or (n, channels).
        sample_rate: Hz.
        exponent: 0.5 (the square-root filter) is what Loizou's wiener_as.m applies and what the "Wiener" rows of the
            literature come from; 1 is the Wiener filter of the theory, which removes more noise and more speech.

    Returns:
        float32 array of the shape of `wav`.

    Raises:
        ganse_tf.audio.AudioError: as `spectral_subtraction`.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(size=16000).astype("float32")
        >>> bool(np.std(wiener(noisy, 16000)) < np.std(noisy))
        True

    References:
        Scalart and Vieira Filho 1996; Loizou, section 6.6 and wiener_as.m.
    """
    return _enhance(wav, sample_rate, _decision_directed(lambda xi, gamma: (xi / (1 + xi)) ** exponent))


def log_mmse(wav, sample_rate):
    """Estimates the log-spectral amplitude with minimum mean-square error.

    Args:
        wav: noisy waveform, float array (n,) or (n, channels).
        sample_rate: Hz.

    Returns:
        float32 array of the shape of `wav`.

    Raises:
        ganse_tf.audio.AudioError: as `spectral_subtraction`.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(size=16000).astype("float32")
        >>> log_mmse(noisy, 16000).shape
        (16000,)

    References:
        Ephraim and Malah 1985, equation (20); Loizou, section 7.7 and logmmse.m.
    """
    return _enhance(wav, sample_rate, _decision_directed(log_mmse_gain))


def stsa_mmse(wav, sample_rate):
    """Estimates the spectral amplitude with minimum mean-square error: the classical row of the cGAN paper.

    The paper tracks the noise with the method of Hendriks (2010); here `track_noise` does it, as for the others.

    Args:
        wav: noisy waveform, float array (n,) or (n, channels).
        sample_rate: Hz.

    Returns:
        float32 array of the shape of `wav`.

    Raises:
        ganse_tf.audio.AudioError: as `spectral_subtraction`.

    Example:
        >>> import numpy as np
        >>> noisy = np.random.default_rng(0).normal(size=16000).astype("float32")
        >>> stsa_mmse(noisy, 16000).shape
        (16000,)

    References:
        Ephraim and Malah 1984, equation (7); Loizou, section 7.3; Michelsanti and Tan 2017, section 3.
    """
    return _enhance(wav, sample_rate, _decision_directed(stsa_mmse_gain))


BASELINES = {"spectral subtraction": spectral_subtraction, "Wiener": wiener, "log-MMSE": log_mmse}


def log_mmse_gain(xi, gamma):
    """Gain of the log-spectral amplitude estimator for a-priori SNR `xi` and a-posteriori SNR `gamma` (ratios > 0)."""
    v = xi / (1 + xi) * gamma
    return xi / (1 + xi) * np.exp(scipy.special.exp1(np.maximum(v, 1e-10)) / 2)  # E1(0) is infinite


def stsa_mmse_gain(xi, gamma):
    """Gain of the spectral amplitude estimator for a-priori SNR `xi` and a-posteriori SNR `gamma` (ratios > 0)."""
    v = xi / (1 + xi) * gamma
    bessel = (1 + v) * scipy.special.i0e(v / 2) + v * scipy.special.i1e(v / 2)  # i0e, i1e hold the factor exp(-v / 2)
    return np.sqrt(np.pi * v) / (2 * gamma) * bessel


def track_noise(power, n_first):
    """Follows the noise power spectrum: the mean of the first frames, then a slow update in frames without speech.

    A frame is noise when the mean over bins of gamma xi / (1 + xi) - ln(1 + xi), the log likelihood ratio of "speech
    and noise" against "noise", is below 0.15; then noise = 0.98 noise + 0.02 |Y|^2. In
    every bin the estimate stays below 3 times the minimum, over 1.5 s around the frame, of the recursively smoothed power.

    Args:
        power: |Y|^2, float array (frames, bins).
        n_first: number of frames >= 1 at the start that are taken to be noise.

    Returns:
        float64 array (frames, bins), > 0.

    Example:
        >>> import numpy as np
        >>> power = np.random.default_rng(0).exponential(size=(400, 64))
        >>> round(float(track_noise(power, 6)[300:].mean()), 1)
        1.0

    References:
        Loizou, section 11.2 and wiener_as.m; Martin 2001 (the minimum).
    """
    noise = np.maximum(power[:n_first].mean(axis=0), POWER_FLOOR)
    smooth = [noise]
    for y in power:
        smooth.append(MIN_SMOOTHING * smooth[-1] + (1 - MIN_SMOOTHING) * y)
    ceiling = MIN_FACTOR * scipy.ndimage.minimum_filter1d(np.array(smooth[1:]), MIN_FRAMES, axis=0, mode="nearest")
    tracked, clean_power = np.empty(power.shape, np.float64), None
    for t, y in enumerate(power):
        noise = np.clip(noise, POWER_FLOOR, np.maximum(ceiling[t], POWER_FLOOR))
        gamma, xi = _snrs(y, noise, clean_power)
        if t >= n_first and np.mean(gamma * xi / (1 + xi) - np.log1p(xi)) < VAD_THRESHOLD:
            noise = np.maximum(NOISE_MEMORY * noise + (1 - NOISE_MEMORY) * y, POWER_FLOOR)
        clean_power = xi / (1 + xi) * y
        tracked[t] = noise
    return tracked


def _snrs(power, noise, previous):
    """A-posteriori and decision-directed a-priori SNR; `previous` is the last frame's enhanced power or None."""
    gamma = np.clip(power / noise, POWER_FLOOR, GAMMA_MAX)
    past = 1.0 if previous is None else previous / noise
    return gamma, np.maximum(DD_ALPHA * past + (1 - DD_ALPHA) * np.maximum(gamma - 1, 0), XI_MIN)


def _decision_directed(gain):
    """Turns gain(xi, gamma) into a rule that remembers the enhanced power of the previous frame."""

    def rule(power, noise, state):
        gamma, xi = _snrs(power, noise, state.get("previous"))
        g = np.minimum(gain(xi, gamma), 1)  # a suppressor never amplifies
        state["previous"] = g**2 * power
        return g

    return rule


def _enhance(wav, sample_rate, rule):
    """Applies `rule(power, noise, state) -> gain` to the frames of every channel."""
    wav = audio.validate(wav, sample_rate)
    if wav.ndim == 2:
        return np.stack([_enhance(channel, sample_rate, rule) for channel in wav.T], axis=1)
    hop = max(int(round(FRAME_SECONDS / 2 * sample_rate)), 1)
    window = np.sqrt(scipy.signal.get_window("hann", 2 * hop))  # the squares add up to one at half overlap
    padded = np.pad(wav.astype(np.float64), (hop, hop + -len(wav) % hop), mode="reflect")  # zeros would bias the noise
    frames = np.lib.stride_tricks.sliding_window_view(padded, 2 * hop)[::hop]
    spec = np.fft.rfft(frames * window)
    power = np.abs(spec) ** 2
    noise = track_noise(power, max(int(NOISE_SECONDS * sample_rate / hop), 1))
    state = {}
    gains = np.stack([rule(p, n, state) for p, n in zip(power, noise)])
    out = np.zeros(len(padded))
    for t, frame in enumerate(np.fft.irfft(spec * gains, 2 * hop) * window):
        out[t * hop : t * hop + 2 * hop] += frame
    return out[hop : hop + len(wav)].astype(np.float32)
