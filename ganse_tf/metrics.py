"""Objective scores of enhanced speech: PESQ, STOI, SI-SDR, SNR, SSNR, LLR, WSS, CSIG, CBAK, COVL, LSD; and EER, WER.

Every metric is called as metric(clean, enhanced, sample_rate), the reference first, and returns a float. Where a score
is not defined (silence, NaN, too short) it is NaN with a warning that says why; tables count these failures and never
average them as numbers. SSNR, LLR, WSS and the composite ratings are written out in `composite.py`.

Tables of many files (`score_pairs`, `evaluate_folders`, `ScoreTable`) live in `scoring.py` and are reached from here.
This module needs only NumPy at import: it runs in spawned worker processes, where TensorFlow would cost seconds.
"""

import functools
import inspect
import math
import warnings

import numpy as np

from ganse_tf import audio, composite

ENERGY_FLOOR = 1e-8  # added to both energies of SNR and SI-SDR, so that a perfect estimate stays finite
LSD_FLOOR = 1e-10
SILENT_PEAK = 1e-6  # -120 dB of full scale; half a 16-bit step is -96 dB

# PESQ's C code has room for 50 utterances (bursts of 0.2 s, 0.2 s apart) and 1000 bad intervals (0.1 s) and never
# checks: beyond that it returns wrong numbers or crashes the process.
PESQ_SAFE_SECONDS = 19.0  # too short for 51 utterances
PESQ_MAX_UTTERANCES = 40
PESQ_MAX_SECONDS = 100.0  # too short for 1001 bad intervals


# ---- one pair --------------------------------------------------------------------------------------------------------


class _Undefined(Exception):
    """A score that does not exist for this pair; the message is the reason that tables count."""


class _Pair:
    """A checked pair in float64 that remembers every score it has given, so that composites share PESQ, LLR and WSS."""

    def __init__(self, clean, enhanced, sample_rate):
        self.sample_rate = audio.check_rate(sample_rate)
        clean, enhanced = (_one_channel(w, n) for w, n in ((clean, "clean"), (enhanced, "enhanced")))
        frame = composite.frame_length(self.sample_rate)
        if abs(len(clean) - len(enhanced)) >= frame:
            raise audio.AudioError(
                f"clean has {len(clean)} samples and enhanced {len(enhanced)}; a pair must have the same length (less "
                f"than one frame of {frame} samples apart is cut). Check that both files are the same utterance at "
                f"the same rate ({self.sample_rate} Hz)."
            )
        n = min(len(clean), len(enhanced))
        self.clean, self.enhanced = clean[:n], enhanced[:n]
        self.problem = self._problem()
        self._known = {}

    def _problem(self):
        for name, wav in (("clean", self.clean), ("enhanced", self.enhanced)):
            problem = audio.content_problem(wav)
            if problem:
                return f"{name} has {problem}"
            if np.abs(wav).max() < SILENT_PEAK:
                return f"{name} is silent"
        return None

    def get(self, name):
        """Score `name`; a failure is remembered like a number and raised again."""
        if name not in self._known:
            try:
                if self.problem:
                    raise _Undefined(self.problem)
                self._known[name] = _finite(METRICS[name].formula(self))
            except (_Undefined, ImportError) as reason:
                self._known[name] = reason
        if isinstance(self._known[name], Exception):
            raise self._known[name]
        return self._known[name]

    def per_frame(self, measure):
        """The values of all 30-ms frames by one of the measures of `composite`."""
        if not composite.frame_count(len(self.clean), self.sample_rate):
            raise _Undefined("less than two frames of 30 ms")
        return measure(self.clean, self.enhanced, self.sample_rate)

    def ratings(self):
        """(CSIG, CBAK, COVL). As in composite.m, PESQ is the raw narrow-band score at 8 kHz, else wide-band MOS-LQO."""
        pesq = _raw_pesq_nb(self) if self.sample_rate == 8000 else self.get("pesq_wb")
        return composite.ratings(pesq, self.get("llr"), self.get("wss"), self.get("ssnr"))


def _one_channel(wav, name):
    """`wav` as float64 (samples,), or AudioError."""
    wav = audio.check_shape(wav, name)
    if wav.ndim == 2 and wav.shape[1] != 1:
        raise audio.AudioError(
            f"{name} has {wav.shape[1]} channels; scores are defined for one. Take one ({name}[:, 0]) or the mean "
            f"({name}.mean(axis=1)), the same for clean and enhanced."
        )
    return wav.reshape(-1).astype(np.float64)


def _finite(value):
    if not math.isfinite(value):
        raise _Undefined(f"the result is {value}")
    return float(value)


def _metric(formula):
    """Turn formula(pair, **options) into the public metric(clean, enhanced, sample_rate, **options)."""

    @functools.wraps(formula)
    def metric(clean, enhanced, sample_rate, **options):
        pair = _Pair(clean, enhanced, sample_rate)
        try:
            if pair.problem:
                raise _Undefined(pair.problem)
            return _finite(formula(pair, **options))
        except _Undefined as reason:
            warnings.warn(f"{formula.__name__} is NaN: {reason}", stacklevel=2)
            return math.nan

    pair, *options = inspect.signature(formula).parameters.values()  # what help() shows
    arguments = [pair.replace(name=name) for name in ("clean", "enhanced", "sample_rate")]
    metric.__signature__ = inspect.Signature(arguments + [o.replace(kind=o.KEYWORD_ONLY) for o in options])
    metric.formula = formula
    return metric


# ---- PESQ and STOI: the reference packages, made safe ----------------------------------------------------------------


@_metric
def pesq_wb(pair):
    """Wide-band PESQ (ITU-T P.862.2) as MOS-LQO, about 1 to 4.64, at 16 kHz: what VoiceBank+DEMAND tables report.

    PESQ levels and aligns the signals itself: it does not see a wrong gain or a short delay.

    Args:
        clean, enhanced: float arrays (samples,), 0.25 s or more.
        sample_rate: 16000.

    Returns:
        float, higher is better; NaN (with a warning) for silence, NaN samples, no speech, too short or too long.

    Raises:
        ganse_tf.audio.AudioError: another rate, lengths that differ, integer samples, several channels.
        ImportError: the package `pesq` is not installed.

    Example:
        >>> tone = np.sin(np.arange(16000) / 6)
        >>> round(pesq_wb(tone, tone, 16000), 3)
        4.644

    References:
        ITU-T P.862.2 (2007).
    """
    return _pesq(pair, "wb")


@_metric
def pesq_nb(pair):
    """Narrow-band PESQ (ITU-T P.862 with the P.862.1 mapping) as MOS-LQO, about 1 to 4.55, at 8 or 16 kHz.

    Arguments, returns and errors as `pesq_wb`. NB and WB numbers are not comparable: name the mode in every table.
    """
    return _pesq(pair, "nb")


@_metric
def stoi(pair):
    """Short-time objective intelligibility, 0 to 1 (Taal et al. 2011), with the package pystoi.

    Args:
        clean, enhanced: float arrays (samples,) with at least 30 frames (0.4 s) of speech.
        sample_rate: Hz; resampled to 10 kHz inside.

    Returns:
        float, higher is better; NaN (with a warning) for silence or too little speech, where pystoi says 0 or 1e-5.
    """
    return _stoi(pair, extended=False)


@_metric
def estoi(pair):
    """Extended STOI, which also hears the masking of modulated noise (Jensen & Taal 2016); arguments as `stoi`."""
    return _stoi(pair, extended=True)


def norm_pesq(score):
    """PESQ on MetricGAN's scale, (PESQ + 0.5) / 5: the raw range -0.5 ... 4.5 becomes 0 ... 1 (Fu et al. 2019, sec. "
    "4)."""
    return (score + 0.5) / 5.0


def normalised(metric):
    """A metric's name or function as ``f(clean, enhanced, sample_rate)`` with values in [0, 1] (Fu et al. 2019, sec. 5.2).

    Args:
        metric: "pesq_wb", "pesq_nb", "stoi", "estoi", or a function, which is returned as it is.

    Raises:
        ValueError: another name.
    """
    if callable(metric):
        return metric
    if metric in ("pesq_wb", "pesq_nb"):
        return lambda clean, enhanced, rate: norm_pesq(globals()[metric](clean, enhanced, rate))
    if metric in ("stoi", "estoi"):
        return globals()[metric]
    raise ValueError(
        f"metric is {metric!r}; use pesq_wb, pesq_nb, stoi, estoi, or give a function (clean, enhanced, rate) -> [0, 1]."
    )


def batch_scores(metric, clean, enhanced, sample_rate):
    """float32 (B,): `metric` (a function, see `normalised`) of NumPy batches (B, n), clipped to [0, 1]; NaN where it fails."""
    with warnings.catch_warnings():  # the reason of a NaN is not needed here
        warnings.simplefilter("ignore")
        values = [metric(c, e, sample_rate) for c, e in zip(np.asarray(clean), np.asarray(enhanced))]
    return np.clip(np.array(values, np.float32), 0.0, 1.0)


def _pesq(pair, mode):
    rates = (16000,) if mode == "wb" else (8000, 16000)
    if pair.sample_rate not in rates:
        raise audio.AudioError(
            f"pesq_{mode} is defined at {' or '.join(map(str, rates))} Hz, not at {pair.sample_rate} Hz. Resample "
            "clean and "
            f"enhanced with audio.resample(wav, {pair.sample_rate}, {rates[-1]}), or leave PESQ and CSIG, CBAK, COVL "
            "out."
        )
    try:
        import pesq
    except ImportError as error:
        raise ImportError(
            "PESQ needs the package 'pesq' (pip install pesq; on Windows and macOS it needs a C compiler). "
            "stoi, si_sdr, snr, ssnr, llr, wss and lsd work without it."
        ) from error
    seconds = len(pair.clean) / pair.sample_rate
    if seconds > PESQ_MAX_SECONDS:
        raise _Undefined(f"longer than {PESQ_MAX_SECONDS:.0f} s, which crashes PESQ: score pieces")
    if seconds > PESQ_SAFE_SECONDS and _most_utterances(pair.clean, pair.sample_rate) > PESQ_MAX_UTTERANCES:
        raise _Undefined(f"more than {PESQ_MAX_UTTERANCES} utterances, which crashes PESQ: score pieces")
    try:
        return float(pesq.pesq(pair.sample_rate, pair.clean, pair.enhanced, mode))
    except pesq.BufferTooShortError as error:
        raise _Undefined("shorter than 0.25 s") from error
    except pesq.NoUtterancesError as error:
        raise _Undefined("PESQ finds no speech in clean") from error
    except (pesq.PesqError, ValueError) as error:  # ValueError: a NaN inside, for example from a constant signal
        raise _Undefined(f"PESQ failed ({type(error).__name__})") from error


def _raw_pesq_nb(pair):
    """The raw P.862 score: P.862.1's mapping y = 0.999 + 4 / (1 + exp(-1.4945 x + 4.6607)) undone."""
    return (4.6607 - math.log(4 / (pair.get("pesq_nb") - 0.999) - 1)) / 1.4945


def _most_utterances(wav, sample_rate):
    """The most bursts of 0.2 s, 0.2 s apart, that any level threshold (PESQ sets its own) finds in the signal."""
    step = sample_rate // 250  # PESQ's detector looks at 4 ms
    most = 0
    for signal in (wav, np.diff(wav)):  # PESQ filters first; the difference stands for a filter that removes rumble
        power = np.square(signal[: len(signal) // step * step]).reshape(-1, step).mean(axis=1)
        for threshold in power.max() * np.logspace(-6, 0, 60, endpoint=False):  # 60 dB in steps of 1 dB
            active = np.flatnonzero(power > threshold)
            if not active.size:  # only where the difference of a constant is zero
                continue
            cuts = np.flatnonzero(np.diff(active) > 48)  # 0.2 s less the edges that PESQ moves
            starts, ends = active[np.append(0, cuts + 1)], active[np.append(cuts, active.size - 1)]
            most = max(most, int(np.count_nonzero(ends - starts >= 44)))
    return most


def _stoi(pair, extended):
    try:
        import pystoi
    except ImportError as error:
        raise ImportError("STOI needs the package 'pystoi': pip install pystoi") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # its warning about too few frames becomes our reason
        try:
            score = float(pystoi.stoi(pair.clean, pair.enhanced, pair.sample_rate, extended=extended))
        except (ValueError, IndexError) as error:  # shorter than one frame
            raise _Undefined("less than 30 frames (0.4 s) of speech") from error
    if score == 1e-5:  # pystoi's way to say so
        raise _Undefined("less than 30 frames (0.4 s) of speech")
    return score


# ---- signal-to-noise ratios ------------------------------------------------------------------------------------------


@_metric
def si_sdr(pair):
    """Scale-invariant signal-to-distortion ratio in dB (Le Roux et al. 2019): level does not count, delay does.

        s, y without their means;  a = <y, s> / |s|^2;  10 log10((|a s|^2 + e) / (|y - a s|^2 + e)),  e = 1e-8

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: Hz (does not change the value).

    Returns:
        float in dB, higher is better; NaN (with a warning) for silent or constant signals.

    Example:
        >>> s, error = np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])
        >>> round(si_sdr(s, s + 0.1 * error, 16000), 4)
        20.0
    """
    s, y = pair.clean - pair.clean.mean(), pair.enhanced - pair.enhanced.mean()
    _refuse_constant(pair, s, y)
    target = np.sum(y * s) / np.sum(s * s) * s
    return _ratio_db(target, y - target)


@_metric
def snr(pair):
    """Signal-to-noise ratio of the whole signal in dB, 10 log10(sum s^2 / sum (s - y)^2): level and delay count.

    Arguments as `si_sdr`. A perfect estimate is limited by the same e = 1e-8 instead of being infinite.
    """
    return _ratio_db(pair.clean, pair.clean - pair.enhanced)


def _refuse_constant(pair, clean, enhanced):
    """Both arguments are the signals without their means; a constant leaves only the rounding of its mean."""
    for name, wav, centred in (("clean", pair.clean, clean), ("enhanced", pair.enhanced, enhanced)):
        if np.abs(centred).max() <= 1e-12 * np.abs(wav).max():
            raise _Undefined(f"{name} is constant")


def _ratio_db(signal, error):
    return 10 * math.log10((np.sum(signal**2) + ENERGY_FLOOR) / (np.sum(error**2) + ENERGY_FLOOR))


@_metric
def ssnr(pair, rescale=False):
    """Segmental SNR in dB, the mean over 30-ms frames of 10 log10(sum (ws)^2 / sum (w(s - y))^2), each in [-10, 35] dB.

    As `composite.m`: Hann window, hop 7.5 ms, all frames, no removal of the mean, no rescaling. Level and delay count:
    one millisecond late can cost 6 dB.

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: Hz.
        rescale: subtract the means and scale `enhanced` to the peak of `clean` first, as SpeechBrain and MetricGAN+ do;
            such numbers do not compare with the usual ones.

    Returns:
        float in dB, higher is better.

    References:
        Hu & Loizou, "Evaluation of objective quality measures for speech enhancement", 2008.
    """
    if rescale:
        clean, enhanced = pair.clean - pair.clean.mean(), pair.enhanced - pair.enhanced.mean()
        _refuse_constant(pair, clean, enhanced)
        pair = _Pair(clean, enhanced * (np.abs(clean).max() / np.abs(enhanced).max()), pair.sample_rate)
    return pair.per_frame(composite.ssnr_frames).mean()


# ---- LLR, WSS, composites --------------------------------------------------------------------------------------------


@_metric
def llr(pair, limit=None):
    """Log-likelihood ratio: how much worse the LPC filter of `enhanced` predicts the clean frame than its own.

        d = ln((A_y R A_y') / (A_s R A_s'))    R: Toeplitz matrix of the clean frame's autocorrelation

    Order 16 (10 below 10 kHz), frames as `ssnr`, mean of the best 95 % of the frames.

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: Hz.
        limit: largest d of a frame. None as in `composite.m` (and CSIG, COVL); 2.0 as in Loizou's `comp_llr.m`.

    Returns:
        float, 0 for identical spectra; lower is better.
    """
    values = pair.per_frame(composite.llr_frames)
    return composite.mean_of_best(values if limit is None else np.minimum(values, limit))


@_metric
def wss(pair):
    """Weighted spectral slope distance (Klatt 1982): slopes between 25 critical bands, weighted by nearness to peaks.

        d = sum W (slope_s - slope_y)^2 / sum W,   W the mean of both signals' 20/(20 + e_max - e) * 1/(1 + e_peak - e)

    Frames as `ssnr`, band energies e in dB (floor -100 dB), mean of the best 95 % of the frames.

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: Hz.

    Returns:
        float, 0 for identical spectra; lower is better.
    """
    return composite.mean_of_best(pair.per_frame(composite.wss_frames))


@_metric
def csig(pair):
    """Predicted rating of signal distortion, 1 (bad) to 5: 3.093 - 1.029 LLR + 0.603 PESQ - 0.009 WSS.

    PESQ is wide-band MOS-LQO at 16 kHz and the raw narrow-band score at 8 kHz, as in `composite.m`.

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: 8000 or 16000.

    Returns:
        float in [1, 5], higher is better; NaN (with a warning) where PESQ, LLR or WSS is.

    References:
        Hu & Loizou, "Evaluation of objective quality measures for speech enhancement", 2008, Table IV.
    """
    return pair.ratings()[0]


@_metric
def cbak(pair):
    """Predicted rating of background noise, 1 to 5: 1.634 + 0.478 PESQ - 0.007 WSS + 0.063 SSNR; see `csig`."""
    return pair.ratings()[1]


@_metric
def covl(pair):
    """Predicted rating of overall quality, 1 to 5: 1.594 + 0.805 PESQ - 0.512 LLR - 0.007 WSS; see `csig`."""
    return pair.ratings()[2]


@_metric
def lsd(pair, n_fft=512, hop_length=256):
    """Log-spectral distance in dB: mean over frames of the rms over bins of 10 log10(|S|^2 / |Y|^2), each plus 1e-10.

    Papers differ in the STFT: state `n_fft` next to the number.

    Args:
        clean, enhanced: float arrays (samples,).
        sample_rate: Hz (does not change the value).
        n_fft: samples of the Hann window and the FFT.
        hop_length: samples.

    Returns:
        float in dB, 0 for identical spectra; lower is better.
    """
    if len(pair.clean) < n_fft:
        raise _Undefined(f"too short: less than n_fft = {n_fft} samples")
    window = 0.5 * (1 - np.cos(2 * np.pi * np.arange(n_fft) / n_fft))
    views = [np.lib.stride_tricks.sliding_window_view(w, n_fft)[::hop_length] for w in (pair.clean, pair.enhanced)]
    values = []
    for start in range(0, len(views[0]), composite.BLOCK):
        mags = (np.abs(np.fft.rfft(v[start : start + composite.BLOCK] * window)) for v in views)
        values.append(log_spectral_distance(*mags))
    return np.concatenate(values).mean()


def log_spectral_distance(clean_mag, enhanced_mag):
    """LSD in dB of every frame, (frames,), from magnitudes (frames, bins)."""
    log_power = [10 * np.log10(np.square(m) + LSD_FLOOR) for m in (clean_mag, enhanced_mag)]
    return np.sqrt(np.square(log_power[0] - log_power[1]).mean(axis=-1))


METRICS = {
    m.__name__: m for m in (pesq_wb, pesq_nb, stoi, estoi, si_sdr, snr, ssnr, llr, wss, csig, cbak, covl, lsd)
}  # fmt: skip
LOWER_IS_BETTER = ("llr", "wss", "lsd")


# ---- several metrics of one pair -------------------------------------------------------------------------------------


def default_metrics(sample_rate):
    """The usual set at a rate: PESQ-WB at 16 kHz, PESQ-NB at 8 kHz, with STOI, SI-SDR, SSNR and the three "
    "composites."""
    return ("pesq_nb" if sample_rate == 8000 else "pesq_wb", "stoi", "si_sdr", "ssnr", "csig", "cbak", "covl")


def check_names(names):
    """A tuple of known metric names, or ValueError."""
    names = (names,) if isinstance(names, str) else tuple(names)
    unknown = [n for n in names if n not in METRICS]
    if unknown or not names:
        raise ValueError(f"Unknown metric {unknown or names}; expected names from: {', '.join(METRICS)}.")
    return names


def score(clean, enhanced, sample_rate, metrics=None):
    """Several scores of one pair; what they share (PESQ, LLR, WSS, SSNR) is computed once.

    Args:
        clean, enhanced: float arrays (samples,), lengths less than one frame (30 ms) apart.
        sample_rate: Hz.
        metrics: names of `METRICS`; None is `default_metrics(sample_rate)`.

    Returns:
        dict of name -> float; NaN, with a warning that says why, where a score is not defined.

    Raises:
        ganse_tf.audio.AudioError: lengths that differ, a rate PESQ does not know, integers, several channels.

    Example:
        >>> tone = np.sin(np.arange(16000) / 6)
        >>> score(tone, 0.9 * tone, 16000, metrics=["ssnr", "llr"])["ssnr"]
        20.0
    """
    scores, reasons = score_with_reasons(clean, enhanced, sample_rate, metrics)
    for reason in dict.fromkeys(reasons.values()):
        names = ", ".join(n for n, r in reasons.items() if r == reason)
        warnings.warn(f"{names}: NaN because {reason}", stacklevel=2)
    return scores


def score_with_reasons(clean, enhanced, sample_rate, metrics=None):
    """As `score`, without warnings: `(scores, reasons)`, the second dict saying why a score is NaN."""
    names = check_names(default_metrics(sample_rate) if metrics is None else metrics)
    pair = _Pair(clean, enhanced, sample_rate)
    scores, reasons = {}, {}
    for name in names:
        try:
            scores[name] = pair.get(name)
        except (_Undefined, ImportError) as reason:
            scores[name], reasons[name] = math.nan, str(reason)
    return scores, reasons


# ---- recognition and verification ------------------------------------------------------------------------------------


def eer(target_scores, nontarget_scores):
    """Equal error rate of speaker verification: where misses and false alarms are equally frequent.

        FRR(t) = P(target < t),  FAR(t) = P(non-target >= t);  the mean of both at the t with the smallest |FRR - FAR|

    Args:
        target_scores: scores of true-speaker trials, higher = more alike.
        nontarget_scores: scores of impostor trials.

    Returns:
        float in [0, 1], lower is better. Above 0.5 the sign of the scores is flipped.

    Raises:
        ValueError: an empty list or a NaN.

    Example:
        >>> round(eer([0.8, 0.6, 0.4], [0.7, 0.3, 0.2]), 4)
        0.3333
    """
    targets, impostors = (np.sort(np.asarray(s, np.float64).ravel()) for s in (target_scores, nontarget_scores))
    if not targets.size or not impostors.size or np.isnan(targets).any() or np.isnan(impostors).any():
        raise ValueError(
            f"eer got {targets.size} target and {impostors.size} non-target scores, NaN among them: "
            f"{bool(np.isnan(targets).any() or np.isnan(impostors).any())}; expected at least one number of each, no "
            "NaN."
        )
    thresholds = np.append(np.union1d(targets, impostors), np.inf)
    frr = np.searchsorted(targets, thresholds, side="left") / targets.size
    far = 1 - np.searchsorted(impostors, thresholds, side="left") / impostors.size
    best = np.argmin(np.abs(frr - far))
    return float((frr[best] + far[best]) / 2)


def wer(references, hypotheses, normalize=True):
    """Word error rate of a whole test set, (S + D + I) / N: errors and reference words are summed, then divided.

    Args:
        references: list of true transcripts (str).
        hypotheses: list of recognised transcripts, same order and length.
        normalize: lower-case and drop punctuation (apostrophes stay) first.

    Returns:
        float, 0 is perfect; may exceed 1.

    Raises:
        ValueError: lists of different length, or no word in the references.
        ImportError: the package `jiwer` is not installed.

    Example:
        >>> round(wer(["the cat sat on the mat"], ["the cat sit on mat"]), 4)
        0.3333
    """
    if isinstance(references, str) and isinstance(hypotheses, str):
        references, hypotheses = [references], [hypotheses]
    references, hypotheses = list(references), list(hypotheses)
    if len(references) != len(hypotheses):
        raise ValueError(f"wer got {len(references)} references but {len(hypotheses)} hypotheses; expected one each.")
    try:
        import jiwer
    except ImportError as error:
        raise ImportError("wer needs the package 'jiwer': pip install jiwer (or ganse_tf[downstream])") from error
    if normalize:
        references, hypotheses = [_plain(t) for t in references], [_plain(t) for t in hypotheses]
    n_words = sum(len(t.split()) for t in references)
    if not n_words:
        raise ValueError(f"wer got {len(references)} references without a word; expected transcripts to compare with.")
    counts = jiwer.process_words(references, hypotheses)
    return (counts.substitutions + counts.deletions + counts.insertions) / n_words


def _plain(text):
    """Lower case, letters, digits and apostrophes only."""
    return " ".join("".join(c if c.isalnum() or c == "'" else " " for c in text.lower().replace("’", "'")).split())


def __getattr__(name):
    if name in ("ScorePool", "ScoreTable", "evaluate_folders", "markdown", "score_pairs"):
        from ganse_tf import scoring

        return getattr(scoring, name)
    raise AttributeError(f"ganse_tf.metrics has no {name!r}")
