"""ganse_tf.metrics, composite and scoring: reference values, identities, traps, failures that are counted, tables."""

import doctest
import inspect
import math
import os
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest

from ganse_tf import audio, composite, metrics, scoring
from ganse_tf.audio import AudioError

RATE = 16000
ROOT = pathlib.Path(__file__).resolve().parents[1]


def sine(n=RATE, sample_rate=RATE):
    return np.sin(2 * np.pi * 440 * np.arange(n) / sample_rate)


def noise_like(n):
    """Noise in [-0.5, 0.5) by integer arithmetic: the same on every machine and NumPy version."""
    i = np.arange(n, dtype=np.int64)
    return ((i * i * 7919 + i * 104729) % 65521) / 65521 - 0.5


def speech_like(sample_rate=RATE, seconds=2.0):
    """Voiced syllables with a gliding fundamental and three resonances, and some breath."""
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * np.cumsum(120 + 25 * np.sin(2 * np.pi * 0.7 * t)) / sample_rate
    wav = np.zeros_like(t)
    for k in range(1, 30):
        gain = sum(1 / (1 + ((120 * k - f) / 150) ** 2) for f in (500 + 200 * np.sin(2 * np.pi * t), 1500, 2500))
        wav += gain * np.sin(k * phase) / k**0.5
    wav *= np.maximum(np.sin(2 * np.pi * 2 * t), 0) ** 0.5
    breath = noise_like(len(t)) * (0.05 + np.abs(np.sin(2 * np.pi * 3 * t)))
    return 0.3 * wav / np.abs(wav).max() + 0.02 * breath


def degraded(clean, kind, sample_rate=RATE):
    if kind == "noisy":
        return clean + 0.03 * noise_like(len(clean) + 999)[999:]
    if kind == "loud":
        return np.tanh(4 * clean) / 4
    return clean + 0.3 * np.sin(2 * np.pi * 1000 * np.arange(len(clean)) / sample_rate)  # hum


# ---- values made by hand ---------------------------------------------------------------------------------------------


def test_ssnr_of_scaled_sines():
    x = sine()
    assert metrics.ssnr(x, 0.9 * x, RATE) == pytest.approx(20.0, abs=1e-9)
    assert metrics.ssnr(x, x, RATE) == 35.0
    assert metrics.ssnr(x, 10 * x, RATE) == -10.0


@pytest.mark.parametrize(
    ("n", "rate", "frames"), [(16000, 16000, 129), (8000, 8000, 129), (600, 16000, 1), (599, 16000, 0)]
)
def test_frame_count_is_one_fewer_than_fits(n, rate, frames):
    assert composite.frame_count(n, rate) == frames
    if frames:
        assert sum(len(s) for s, _ in composite.frames(np.ones(n), np.ones(n), rate)) == frames


def test_blocks_do_not_change_the_frames(monkeypatch):
    wav = speech_like()
    whole = metrics.score(wav, degraded(wav, "noisy"), RATE, ["ssnr", "llr", "wss", "lsd"])
    monkeypatch.setattr(composite, "BLOCK", 7)
    pieces = metrics.score(wav, degraded(wav, "noisy"), RATE, ["ssnr", "llr", "wss", "lsd"])
    assert pieces == pytest.approx(whole, rel=1e-12)


def test_si_sdr_of_four_samples_at_two_levels():
    s, error = np.array([1.0, -1, 1, -1]), np.array([1.0, 1, -1, -1])
    assert metrics.si_sdr(s, s + 0.1 * error, RATE) == pytest.approx(20.0, abs=1e-5)
    assert metrics.si_sdr(s, 5 * (s + 0.1 * error), RATE) == pytest.approx(20.0, abs=1e-5)
    assert metrics.si_sdr(s, s + 0.1 * error + 3.0, RATE) == pytest.approx(20.0, abs=1e-5)  # means are removed
    assert metrics.snr(s, s + 0.1 * error, RATE) == pytest.approx(20.0, abs=1e-5)
    assert metrics.snr(s, 0.5 * s, RATE) == pytest.approx(10 * math.log10(4), abs=1e-6)


def test_composite_ratings_from_their_parts():
    assert composite.ratings(pesq=2.0, llr=1.0, wss=40.0, ssnr=5.0) == pytest.approx((2.910, 2.625, 2.412), abs=1e-12)
    assert composite.ratings(pesq=4.6, llr=0.0, wss=0.0, ssnr=35.0) == (5.0, 5.0, 5.0)
    assert composite.ratings(pesq=1.0, llr=4.0, wss=200.0, ssnr=-10.0) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("wav", [sine(), speech_like()], ids=["sine", "speech"])
def test_identity(wav):
    expected = {
        "pesq_wb": 4.643888, "pesq_nb": 4.548638, "stoi": 1.0, "estoi": 1.0, "llr": 0.0, "wss": 0.0, "ssnr": 35.0,
        "csig": 5.0, "cbak": 5.0, "covl": 5.0, "lsd": 0.0,
    }  # fmt: skip
    scores = metrics.score(wav, wav, RATE, list(expected))
    assert scores == pytest.approx(expected, abs=1e-6)
    perfect = 10 * math.log10(np.sum((wav - wav.mean()) ** 2) / 1e-8)  # finite: limited by the 1e-8 in both energies
    assert metrics.si_sdr(wav, wav, RATE) == pytest.approx(perfect, abs=0.01)


def test_lsd_by_hand():
    ones, tens = np.ones((2, 4)), np.full((2, 4), 10.0)
    assert metrics.log_spectral_distance(ones, tens).mean() == pytest.approx(20.0, abs=1e-6)
    one_bin = ones.copy()
    one_bin[0, 2] = 10.0
    assert metrics.log_spectral_distance(ones, one_bin).mean() == pytest.approx(5.0, abs=1e-6)
    wav = speech_like()
    assert metrics.lsd(wav, 0.1 * wav, RATE) == pytest.approx(20.0, abs=1e-2)
    assert metrics.lsd(wav, degraded(wav, "noisy"), RATE, n_fft=1024) != metrics.lsd(wav, degraded(wav, "noisy"), RATE)


def test_eer_by_hand():
    assert metrics.eer([0.8, 0.6, 0.4], [0.7, 0.3, 0.2]) == pytest.approx(1 / 3)
    assert metrics.eer([1.0, 2.0], [-1.0, 0.0]) == 0.0
    assert metrics.eer([-1.0, 0.0], [1.0, 2.0]) == 1.0  # flipped sign
    assert metrics.eer([0.5] * 4, [0.5] * 4) == 0.5
    scores = noise_like(4000)
    assert metrics.eer(scores[:2000] + 0.2, scores[2000:]) == pytest.approx(0.4, abs=0.02)  # uniform, shifted by 0.2
    with pytest.raises(ValueError, match=r"0 target and 1 non-target scores.*expected at least one"):
        metrics.eer([], [0.1])
    with pytest.raises(ValueError, match=r"NaN among them: True"):
        metrics.eer([0.1, np.nan], [0.1])


def test_wer_by_hand():
    pytest.importorskip("jiwer", reason="jiwer is an extra (ganse_tf[downstream])")
    reference, hypothesis = "the cat sat on the mat", "the cat sit on mat"
    assert metrics.wer([reference], [hypothesis]) == pytest.approx(2 / 6)
    assert metrics.wer(reference, hypothesis) == pytest.approx(2 / 6)
    assert metrics.wer(["The cat, sat."], ["the cat sat"]) == 0.0
    assert metrics.wer(["The cat, sat."], ["the cat sat"], normalize=False) > 0.5
    assert metrics.wer(["it's"], ["its"]) == 1.0  # apostrophes stay
    assert metrics.wer(["one", "one two three"], ["two", "one two three"]) == pytest.approx(1 / 4)  # pooled, not 1/2
    assert metrics.wer(["one", ""], ["one", "two three"]) == 2.0  # may exceed 1
    with pytest.raises(ValueError, match=r"2 references but 1 hypotheses"):
        metrics.wer(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"1 references without a word"):
        metrics.wer(["..."], ["a"])


def test_wer_without_jiwer_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(ImportError, match=r"pip install jiwer"):
        metrics.wer(["a"], ["a"])


def test_norm_pesq():
    assert [metrics.norm_pesq(p) for p in (-0.5, 2.0, 4.5)] == [0.0, 0.5, 1.0]


# ---- values of other implementations ---------------------------------------------------------------------------------

# SSNR, LLR and WSS of these arrays by pysepm-evo 0.1.1, an independent (GPL) translation of the MATLAB files
PYSEPM = {
    (16000, "noisy"): (5.354663412367784, 0.25905934518488416, 17.748344318110394),
    (16000, "loud"): (26.75687873931716, 0.05262528295836669, 0.3875220392296904),
    (16000, "hum"): (-9.65266792214443, 0.35046023679907984, 136.7731724827169),
    (8000, "noisy"): (5.427678538887459, 0.15239115002599313, 16.56349130499016),
    (8000, "loud"): (26.711732445970046, 0.021452979574616466, 0.40675171450824477),
    (8000, "hum"): (-9.646074603174778, 0.5570940649018682, 129.96022814748585),
}


@pytest.mark.parametrize(("rate", "kind"), list(PYSEPM))
def test_ssnr_llr_wss_agree_with_pysepm(rate, kind):
    clean = speech_like(rate)
    scores = metrics.score(clean, degraded(clean, kind, rate), rate, ["ssnr", "llr", "wss"])
    assert tuple(scores.values()) == pytest.approx(PYSEPM[rate, kind], rel=1e-8)


def test_llr_with_and_without_the_limit_agrees_with_pysepm():
    clean = speech_like()
    hum = degraded(clean, "hum")
    assert metrics.llr(hum, clean, RATE, limit=2.0) == pytest.approx(1.955487145445521, rel=1e-8)
    assert metrics.llr(hum, clean, RATE) == pytest.approx(4.892595767283924, rel=1e-8)


def test_wss_peak_search_against_a_plain_loop():
    """The search written as in composite.m, one band at a time, on random energies with plateaus."""
    energy = np.round(20 * noise_like(200 * 25).reshape(200, 25))
    slope, weight = composite.slopes_and_weights(energy)
    for e, s, w in zip(energy, slope, weight):
        for i in range(24):
            n = i
            if s[i] > 0:
                while n < 24 and s[n] > 0:
                    n += 1
                peak = e[n - 1]
            else:
                while n >= 0 and s[n] <= 0:
                    n -= 1
                peak = e[n + 1]
            assert w[i] == pytest.approx(20 / (20 + e.max() - e[i]) / (1 + peak - e[i]), rel=1e-12)


def test_levinson_solves_the_normal_equations():
    r = composite.autocorrelation(noise_like(5 * 480).reshape(5, 480), 16)
    a = composite.levinson(r)
    lags = np.abs(np.subtract.outer(np.arange(1, 17), np.arange(1, 17)))
    for row, coefficients in zip(r, a):
        np.testing.assert_allclose(coefficients[1:], -np.linalg.solve(row[lags], row[1:]), atol=1e-10)


def test_rounding_and_trimming_are_matlab_s():
    assert [composite.matlab_round(0.95 * n) for n in (30, 70, 110)] == [29, 67, 105]  # Python: 28, 66, 104
    assert composite.mean_of_best(np.array([1.0] * 29 + [100.0])) == 1.0
    assert composite.mean_of_best(np.array([np.nan] + [1.0] * 29)) == 1.0
    assert math.isnan(composite.mean_of_best(np.array([np.nan] * 2 + [1.0] * 28)))


# PESQ and STOI of the same arrays by pesq 0.0.4 and pystoi 0.4.1: guards our wrapper, its argument order and its mode
@pytest.mark.parametrize(
    ("rate", "kind", "expected"),
    [
        (16000, "noisy", {"pesq_wb": 2.410396, "pesq_nb": 3.771537, "stoi": 0.950280, "estoi": 0.647454}),
        (16000, "hum", {"pesq_wb": 2.451010, "pesq_nb": 3.061133, "stoi": 0.968700, "estoi": 0.675468}),
        (8000, "noisy", {"pesq_nb": 3.535672, "stoi": 0.942153, "estoi": 0.599048}),
    ],
)
def test_pesq_and_stoi_regression(rate, kind, expected):
    clean = speech_like(rate)
    assert metrics.score(clean, degraded(clean, kind, rate), rate, list(expected)) == pytest.approx(expected, abs=2e-3)


def test_composites_use_wide_band_lqo_at_16_khz_and_raw_narrow_band_at_8_khz():
    clean = speech_like(16000)
    names = ["pesq_wb", "llr", "wss", "ssnr", "csig", "cbak", "covl"]
    parts = metrics.score(clean, degraded(clean, "noisy"), 16000, names)
    rated = composite.ratings(parts["pesq_wb"], parts["llr"], parts["wss"], parts["ssnr"])
    assert (parts["csig"], parts["cbak"], parts["covl"]) == pytest.approx(rated, abs=1e-12)
    clean = speech_like(8000)
    noisy = degraded(clean, "noisy", 8000)
    parts = metrics.score(clean, noisy, 8000, ["pesq_nb", *names[1:]])
    raw = metrics._raw_pesq_nb(metrics._Pair(clean, noisy, 8000))
    assert 0.999 + 4 / (1 + math.exp(-1.4945 * raw + 4.6607)) == pytest.approx(parts["pesq_nb"], abs=1e-9)
    rated = composite.ratings(raw, parts["llr"], parts["wss"], parts["ssnr"])
    assert (parts["csig"], parts["cbak"], parts["covl"]) == pytest.approx(rated, abs=1e-12)
    assert metrics.csig(clean, noisy, 8000) == pytest.approx(parts["csig"], abs=1e-12)


def test_raw_pesq_of_a_published_example():
    pair = metrics._Pair(sine(), sine(), RATE)
    pair._known["pesq_nb"] = 2.135208  # P.862.1 of raw 2.5
    assert metrics._raw_pesq_nb(pair) == pytest.approx(2.5, abs=1e-5)


REFERENCE_AUDIO = os.environ.get("GANSE_REFERENCE_AUDIO")
needs_reference_audio = pytest.mark.skipif(
    not REFERENCE_AUDIO,
    reason="GANSE_REFERENCE_AUDIO (a folder with the WAV files of pysepm and python-pesq, and sp04) is not set",
)


def _reference(name, expected_rate=RATE):
    path = pathlib.Path(REFERENCE_AUDIO) / name
    if not path.exists():
        pytest.skip(f"{name} is not in GANSE_REFERENCE_AUDIO")
    wav, rate = audio.read(path)
    assert rate == expected_rate
    return wav


@needs_reference_audio
@pytest.mark.parametrize(
    ("name", "matlab", "llr_limited", "derived"),
    [
        (
            "noisySpeech",
            {"ssnr": -0.2168617488, "wss": 44.6986136913, "pesq_wb": 1.1624181, "stoi": 0.838907, "csig": 2.037992,
             "cbak": 1.863083, "covl": 1.543316},
            1.2530765534,
            {"llr": 1.315509, "estoi": 0.638117, "si_sdr": 5.017736, "snr": 5.003358, "pesq_nb": 1.471951},
        ),
        (
            "processed",
            {"ssnr": -1.2033705198, "wss": 66.7954815063, "pesq_wb": 1.0594705, "stoi": 0.6612, "csig": 1.0,
             "cbak": 1.597046, "covl": 1.0},
            1.6044180855,
            {"llr": 2.080093, "estoi": 0.469397, "si_sdr": -2.911841, "snr": 1.772874, "pesq_nb": 1.137805},
        ),
    ],
)  # fmt: skip
def test_matlab_values_of_the_pysepm_files(name, matlab, llr_limited, derived):
    """`matlab` is published (pysepm's tests/results.mat); `derived` was computed once on the same files."""
    clean, enhanced = _reference("1_speech_16000_Hz.wav"), _reference(f"1_{name}_16000_Hz.wav")
    scores = metrics.score(clean, enhanced, RATE, list(matlab))
    assert scores["ssnr"] == pytest.approx(matlab["ssnr"], abs=1e-9)
    assert scores["wss"] == pytest.approx(matlab["wss"], abs=1e-8)
    assert scores == pytest.approx(matlab, abs=2e-3)
    assert metrics.llr(clean, enhanced, RATE, limit=2.0) == pytest.approx(llr_limited, abs=1e-7)
    assert metrics.score(clean, enhanced, RATE, list(derived)) == pytest.approx(derived, abs=1e-4)


@needs_reference_audio
def test_published_values_of_the_pesq_package():
    """The two PESQ values are published (python-pesq's tests); the others were computed once on the same files."""
    clean, noisy = _reference("speech.wav"), _reference("speech_bab_0dB.wav")
    expected = {
        "pesq_wb": 1.083234, "pesq_nb": 1.607208, "stoi": 0.673918, "estoi": 0.390450, "ssnr": -4.038665,
        "llr": 0.960752, "wss": 52.657866, "csig": 2.283655, "cbak": 1.528745, "covl": 1.605493, "si_sdr": 0.103790,
    }  # fmt: skip
    assert metrics.score(clean, noisy, RATE, list(expected)) == pytest.approx(expected, abs=1e-4)


@needs_reference_audio
def test_values_of_loizou_s_8_khz_pair():
    """Computed once; no values are published for these files."""
    clean, noisy = _reference("sp04.wav", 8000), _reference("sp04_babble_sn10.wav", 8000)
    expected = {
        "llr": 0.639995, "wss": 37.649017, "ssnr": 0.959473, "csig": 3.581044, "cbak": 2.608417, "covl": 2.985830,
    }  # fmt: skip
    assert metrics.score(clean, noisy, 8000, list(expected)) == pytest.approx(expected, abs=1e-4)
    assert metrics._raw_pesq_nb(metrics._Pair(clean, noisy, 8000)) == pytest.approx(2.463417, abs=1e-3)


def test_noisy_row_of_the_development_pairs(shared_data):
    """The first thing to check in every experiment: the scores of the unprocessed files."""
    folder = shared_data / "pairs" / "vbdemand_p232"
    names = ["pesq_wb", "stoi", "si_sdr"]
    table = metrics.evaluate_folders(folder / "clean", folder / "noisy", names, progress=False)
    assert len(table) == 41 and table.failures() == {}
    means = table.means()
    assert means["pesq_wb"] == pytest.approx(1.80, abs=0.005)
    assert means["stoi"] == pytest.approx(0.905, abs=0.0005)
    assert means["si_sdr"] == pytest.approx(6.39, abs=0.005)


# ---- what the metrics forgive, and what not --------------------------------------------------------------------------


def test_level():
    clean = speech_like()
    noisy = degraded(clean, "noisy")
    full, half = (metrics.score(clean, y, RATE, ["pesq_wb", "stoi", "si_sdr", "ssnr"]) for y in (noisy, 0.5 * noisy))
    for name in ("pesq_wb", "stoi", "si_sdr"):
        assert half[name] == pytest.approx(full[name], abs=1e-3)
    assert half["ssnr"] < full["ssnr"] - 0.5


def test_delay_of_one_millisecond():
    clean = speech_like()
    noisy = degraded(clean, "noisy")
    late = np.concatenate([np.zeros(16), noisy[:-16]])
    now, then = (metrics.score(clean, y, RATE, ["pesq_wb", "si_sdr", "ssnr", "cbak"]) for y in (noisy, late))
    assert then["pesq_wb"] == pytest.approx(now["pesq_wb"], abs=0.05)
    assert then["si_sdr"] < now["si_sdr"] - 6 and then["ssnr"] < now["ssnr"] - 3 and then["cbak"] < now["cbak"]


def test_ssnr_rescaled_is_blind_to_level_and_offset():
    clean = speech_like()
    noisy = degraded(clean, "noisy")
    rescaled = metrics.ssnr(clean, noisy, RATE, rescale=True)
    assert metrics.ssnr(clean, 0.3 * noisy + 0.1, RATE, rescale=True) == pytest.approx(rescaled, abs=1e-6)
    assert rescaled != pytest.approx(metrics.ssnr(clean, noisy, RATE), abs=1e-3)


def test_arguments_are_not_modified_and_not_symmetric():
    clean, noisy = speech_like(), degraded(speech_like(), "noisy")
    before = clean.copy(), noisy.copy()
    forth = metrics.score(clean, noisy, RATE, list(metrics.METRICS))
    metrics.ssnr(clean, noisy, RATE, rescale=True)
    np.testing.assert_array_equal(clean, before[0])
    np.testing.assert_array_equal(noisy, before[1])
    back = metrics.score(noisy, clean, RATE, list(metrics.METRICS))
    for name in ("pesq_wb", "stoi", "snr", "ssnr", "llr", "csig"):  # SI-SDR is symmetric
        assert forth[name] != pytest.approx(back[name], abs=1e-6), name


def test_float32_and_one_column_arrays_are_accepted():
    clean, noisy = speech_like(), degraded(speech_like(), "noisy")
    wide = metrics.score(clean, noisy, RATE)
    assert metrics.score(clean.astype("f4")[:, None], noisy.astype("f4"), RATE) == pytest.approx(wide, abs=1e-3)


# ---- failures: NaN with a reason, never a crash or a fake number -----------------------------------------------------


@pytest.mark.parametrize("name", list(metrics.METRICS))
@pytest.mark.parametrize(
    ("clean", "enhanced", "reason"),
    [
        (np.zeros(RATE), sine(), "clean is silent"),
        (sine(), np.zeros(RATE), "enhanced is silent"),
        (sine(), 1e-9 * sine(), "enhanced is silent"),
        (sine(), np.where(np.arange(RATE) == 7, np.nan, sine()), "enhanced has NaN or inf"),
        (np.where(np.arange(RATE) == 7, np.inf, sine()), sine(), "clean has NaN or inf"),
        (np.zeros(0), np.zeros(0), "clean has no samples"),
    ],
)
def test_useless_sound_is_nan_with_a_reason(name, clean, enhanced, reason):
    with pytest.warns(UserWarning, match=f"{name} is NaN: {reason}"):
        assert math.isnan(metrics.METRICS[name](clean, enhanced, RATE))


@pytest.mark.parametrize(
    ("n", "reasons"),
    [
        (300, {"pesq_wb": "shorter than 0.25 s", "stoi": "30 frames", "ssnr": "two frames", "lsd": "n_fft = 512"}),
        (3999, {"pesq_wb": "shorter than 0.25 s", "pesq_nb": "shorter than 0.25 s", "estoi": "30 frames"}),
        (5000, {"stoi": "30 frames"}),
    ],
)
def test_short_sound(n, reasons):
    wav = speech_like()[4000 : 4000 + n]
    scores, found = metrics.score_with_reasons(wav, wav + 0.01 * noise_like(n), RATE, list(metrics.METRICS))
    for name, reason in reasons.items():
        assert math.isnan(scores[name]) and reason in found[name]
    assert math.isfinite(scores["si_sdr"]) and "si_sdr" not in found
    assert all(math.isnan(scores[name]) == (name in found) for name in scores)


def test_failed_part_fails_the_composite_with_the_same_reason():
    wav = speech_like()[4000:7000]
    _, reasons = metrics.score_with_reasons(wav, 0.5 * wav, RATE, ["csig", "cbak", "covl"])
    assert reasons == dict.fromkeys(["csig", "cbak", "covl"], "shorter than 0.25 s")


def test_constant_signals_have_no_si_sdr():
    constant = np.full(RATE, 0.3)
    for clean, enhanced, who in ((constant, sine(), "clean"), (sine(), constant, "enhanced")):
        with pytest.warns(UserWarning, match=f"si_sdr is NaN: {who} is constant"):
            assert math.isnan(metrics.si_sdr(clean, enhanced, RATE))
        with pytest.warns(UserWarning, match=f"ssnr is NaN: {who} is constant"):
            assert math.isnan(metrics.ssnr(clean, enhanced, RATE, rescale=True))


def test_no_speech_in_clean():
    click = np.zeros(RATE)
    click[0] = 1.0
    scores, reasons = metrics.score_with_reasons(click, sine(), RATE, ["pesq_nb", "stoi"])
    assert reasons["pesq_nb"] == "PESQ finds no speech in clean" and "30 frames" in reasons["stoi"]
    assert all(math.isnan(v) for v in scores.values())


@pytest.mark.parametrize(
    ("seconds", "gap", "reason"), [(90, 0.5, "more than 40 utterances"), (101, 0.0, "longer than 100 s")]
)
def test_pesq_is_not_called_where_its_c_code_would_crash(monkeypatch, seconds, gap, reason):
    import pesq

    monkeypatch.setattr(pesq, "pesq", lambda *_: pytest.fail("pesq was called"))
    burst = np.concatenate([0.3 * noise_like(int(0.4 * RATE)), np.zeros(int(gap * RATE))])
    wav = np.resize(burst, seconds * RATE)
    with pytest.warns(UserWarning, match=f"{reason}.*score pieces"):
        assert math.isnan(metrics.pesq_wb(wav, 0.9 * wav, RATE))


def test_half_a_minute_with_pauses_still_has_a_pesq():
    wav = np.resize(np.concatenate([speech_like(seconds=1.0), 1e-3 * noise_like(8000)]), 30 * RATE)
    assert 10 <= metrics._most_utterances(wav, RATE) <= metrics.PESQ_MAX_UTTERANCES
    assert 1 < metrics.pesq_wb(wav, wav + 0.03 * noise_like(len(wav)), RATE) < 4.5


def test_an_unexpected_pesq_error_is_a_reason(monkeypatch):
    import pesq

    def broken(*_):
        raise ValueError("cannot convert float NaN to integer")

    monkeypatch.setattr(pesq, "pesq", broken)
    with pytest.warns(UserWarning, match=r"pesq_wb is NaN: PESQ failed \(ValueError\)"):
        assert math.isnan(metrics.pesq_wb(sine(), sine(), RATE))


@pytest.mark.parametrize(("package", "name"), [("pesq", "pesq_wb"), ("pystoi", "stoi")])
def test_a_missing_package_is_named(monkeypatch, package, name):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=f"needs the package '{package}'.*pip install {package}"):
        metrics.METRICS[name](sine(), sine(), RATE)
    with pytest.warns(UserWarning, match=f"{name}: NaN because .*'{package}'"):
        scores = metrics.score(sine(), sine(), RATE, [name, "ssnr"])
    assert math.isnan(scores[name]) and scores["ssnr"] == 35.0


def test_score_warns_once_per_reason():
    with pytest.warns(UserWarning) as caught:
        metrics.score(sine(), np.zeros(RATE), RATE)
    assert [str(w.message) for w in caught] == [
        "pesq_wb, stoi, si_sdr, ssnr, csig, cbak, covl: NaN because enhanced is silent"
    ]


def test_good_sound_warns_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics.score(speech_like(), degraded(speech_like(), "noisy"), RATE, list(metrics.METRICS))


# ---- wrong use: refused with a sentence ------------------------------------------------------------------------------


def test_lengths():
    x = sine()
    assert metrics.ssnr(x, 0.9 * x[:-479], RATE) == pytest.approx(20.0)
    with pytest.raises(AudioError, match=r"clean has 16000 samples and enhanced 15520; a pair must have the same"):
        metrics.ssnr(x, x[:-480], RATE)


@pytest.mark.parametrize(
    ("clean", "message"),
    [
        (np.zeros(RATE, np.int16), r"clean has dtype int16; expected floats.*divide by 32768"),
        (np.zeros((RATE, 2)), r"clean has 2 channels; scores are defined for one.*clean\[:, 0\]"),
        (np.zeros((2, RATE)), r"clean has shape \(2, 16000\).*clean\.T"),
        ("clean.wav", r"audio\.read"),
    ],
)
def test_wrong_arrays(clean, message):
    with pytest.raises(AudioError, match=message):
        metrics.si_sdr(clean, sine(), RATE)


@pytest.mark.parametrize(
    ("name", "rate", "message"),
    [
        ("pesq_wb", 8000, r"pesq_wb is defined at 16000 Hz, not at 8000 Hz"),
        ("pesq_wb", 44100, r"audio\.resample\(wav, 44100, 16000\)"),
        ("pesq_nb", 48000, r"pesq_nb is defined at 8000 or 16000 Hz"),
        ("csig", 44100, r"leave PESQ and CSIG, CBAK, COVL out"),
        ("si_sdr", 0, r"sample_rate is 0; expected a whole number"),
        ("stoi", "16k", r"sample_rate is '16k'; expected a whole number"),
    ],
)
def test_wrong_rates(name, rate, message):
    with pytest.raises(AudioError, match=message):
        metrics.METRICS[name](sine(), sine(), rate)


def test_other_rates_work_without_pesq():
    clean = speech_like(44100)
    scores = metrics.score(clean, degraded(clean, "noisy"), 44100, ["stoi", "si_sdr", "llr", "wss"])
    assert all(math.isfinite(v) for v in scores.values())


def test_unknown_metric():
    with pytest.raises(ValueError, match=r"Unknown metric \['pesq'\]; expected names from: pesq_wb, pesq_nb, stoi"):
        metrics.score(sine(), sine(), RATE, ["pesq"])
    with pytest.raises(ValueError, match=r"expected names from"):
        metrics.score(sine(), sine(), RATE, [])
    assert list(metrics.score(sine(), sine(), RATE, "ssnr")) == ["ssnr"]


# ---- shared work -----------------------------------------------------------------------------------------------------


def test_score_runs_pesq_llr_and_wss_once(monkeypatch):
    import pesq

    calls = []
    for module, name in [(pesq, "pesq")] + [(composite, n) for n in ("llr_frames", "wss_frames", "ssnr_frames")]:
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, real=real, name=name: calls.append(name) or real(*a))
    names = ["pesq_wb", "csig", "cbak", "covl", "llr", "wss", "ssnr"]
    scores = metrics.score(speech_like(), degraded(speech_like(), "noisy"), RATE, names)
    assert sorted(calls) == ["llr_frames", "pesq", "ssnr_frames", "wss_frames"]
    monkeypatch.undo()
    for name in names:
        single = metrics.METRICS[name](speech_like(), degraded(speech_like(), "noisy"), RATE)
        assert scores[name] == pytest.approx(single, abs=1e-12), name


def test_default_metrics_depend_on_the_rate():
    assert list(metrics.score(sine(), sine(), RATE))[0] == "pesq_wb"
    assert list(metrics.score(sine(8000, 8000), sine(8000, 8000), 8000))[0] == "pesq_nb"


def test_signatures_and_table_of_metrics():
    assert str(inspect.signature(metrics.csig)) == "(clean, enhanced, sample_rate)"
    assert str(inspect.signature(metrics.llr)) == "(clean, enhanced, sample_rate, *, limit=None)"
    assert set(metrics.METRICS) == set(scoring.LABELS)
    with pytest.raises(AttributeError, match="no 'pesq'"):
        _ = metrics.pesq


# ---- many pairs ------------------------------------------------------------------------------------------------------


def four_pairs():
    clean = speech_like(seconds=1.0).astype(np.float32)
    noisy = degraded(clean, "noisy").astype(np.float32)
    broken = noisy.copy()
    broken[100] = np.nan
    return [(name, clean, wav, RATE) for name, wav in zip("abcd", (noisy, 0 * noisy, broken, clean))]


def test_score_pairs_keeps_order_and_counts_failures():
    table = metrics.score_pairs(four_pairs(), progress=False)
    assert isinstance(table, metrics.ScoreTable) and len(table) == 4
    assert [row["name"] for row in table.rows] == ["a", "b", "c", "d"]
    assert table.rows[0]["sample_rate"] == RATE and table.rows[0]["seconds"] == 1.0
    reasons = {"enhanced is silent": 1, "enhanced has NaN or inf": 1}
    assert table.failures() == dict.fromkeys(metrics.default_metrics(RATE), reasons)
    assert table.rows[1]["failures"]["stoi"] == "enhanced is silent" and math.isnan(table.rows[1]["stoi"])
    expected = (table.rows[0]["pesq_wb"] + table.rows[3]["pesq_wb"]) / 2
    assert table.means()["pesq_wb"] == pytest.approx(expected)


SCRIPT = """
print("the script runs")  # no main guard: a worker that ran the script again would print (and recurse)
import numpy as np
from ganse_tf import metrics, scoring

tone = np.sin(np.arange(16000) / 6)
pairs = [(str(i), tone, tone + 0.01 * i * np.cos(np.arange(16000) ** 1.5), 16000) for i in range(1, 6)]
pairs.append(("silent", tone, 0 * tone, 16000))
inline = metrics.score_pairs(pairs, list(metrics.METRICS), progress=False)
pooled = metrics.score_pairs(pairs, list(metrics.METRICS), workers=2, progress=False)
for a, b in zip(inline.rows, pooled.rows, strict=True):
    assert a["name"] == b["name"] and a["failures"] == b["failures"]
    np.testing.assert_allclose([a[m] for m in metrics.METRICS], [b[m] for m in metrics.METRICS], rtol=1e-6, atol=1e-9)
with scoring.ScorePool(1) as pool:
    pool.submit(tone, tone, 16000, ["ssnr"]).result()
    loaded = pool._pool.submit(eval, "set(__import__('sys').modules)").result()
print(sorted({"tensorflow", "keras", "librosa", "matplotlib"} & loaded), "ganse_tf.metrics" in loaded)
"""


def test_spawned_workers_give_the_same_without_running_the_script_or_loading_tensorflow(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert out.stdout.splitlines() == ["the script runs", "[] True"]


def test_pool_leaves_main_and_the_environment_as_they_were():
    main = sys.modules["__main__"]
    before = getattr(main, "__file__", None), main.__spec__, dict(os.environ)
    with metrics.ScorePool(1) as pool:
        scores, reasons = pool.submit(sine(), 0.9 * sine(), RATE, ["ssnr"]).result()
        assert scores == pytest.approx({"ssnr": 20.0}) and reasons == {}
        assert (getattr(main, "__file__", None), main.__spec__, dict(os.environ)) == before


def test_a_dying_worker_is_explained():
    def dying():
        yield "first", sine(), sine(), RATE
        for pool in pools:
            pool._pool.submit(os._exit, 1)
        for i in range(20):
            yield f"later {i}", sine(), sine(), RATE

    pools, make = [], scoring.ScorePool

    class Watched(make):
        def __init__(self, workers):
            super().__init__(workers)
            pools.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "ScorePool", Watched)
        with pytest.raises(RuntimeError, match=r"A scoring process died at or near '.*'\. Score again with workers=0"):
            metrics.score_pairs(dying(), ["ssnr"], workers=1, progress=False)


@pytest.mark.parametrize("workers", [0, 1])
def test_score_pairs_names_the_pair_that_does_not_fit(workers):
    pairs = [("good", sine(), sine(), RATE), ("p232_007", sine(), sine(8000), RATE)]
    with pytest.raises(AudioError, match=r"'p232_007': clean has 16000 samples and enhanced 8000"):
        metrics.score_pairs(pairs, ["ssnr"], workers=workers, progress=False)


def test_score_pairs_refuses_mixed_rates_no_pairs_and_odd_workers():
    pairs = [("a", sine(), sine(), RATE), ("b", sine(), sine(), 8000)]
    with pytest.raises(AudioError, match=r"'a' has 16000 Hz and 'b' 8000 Hz; one table needs one rate"):
        metrics.score_pairs(pairs, ["ssnr"], progress=False)
    with pytest.raises(AudioError, match=r"sample_rate of 'a' is None; expected a whole number"):
        metrics.score_pairs([("a", sine(), sine(), None)], ["ssnr"], progress=False)
    with pytest.raises(AudioError, match=r"There are no pairs to score"):
        metrics.score_pairs([], ["ssnr"])
    for workers in (-1, 1.5, "2", True):
        with pytest.raises(ValueError, match=r"workers is .*; expected 0 \(score in this process\) or a number"):
            metrics.score_pairs(pairs, ["ssnr"], workers=workers, progress=False)
    with pytest.raises(ValueError, match=r"Unknown metric \['PESQ'\]"):
        metrics.score_pairs(pairs, ["PESQ"], progress=False)


def test_pairs_are_read_only_as_fast_as_they_are_scored(monkeypatch):
    """A generator that enhances must not fill the memory: at most IN_FLIGHT pairs per worker wait."""
    made, scored = [], []
    real = metrics.score_with_reasons
    monkeypatch.setattr(metrics, "score_with_reasons", lambda *a: scored.append(1) or real(*a))

    def pairs():
        for i in range(5):
            assert len(made) - len(scored) <= 1
            made.append(1)
            yield i, sine(), sine(), RATE

    assert [row["name"] for row in metrics.score_pairs(pairs(), ["ssnr"], progress=False).rows] == list("01234")


def test_no_progress_bar_off_a_terminal(capsys):
    metrics.score_pairs([("a", sine(), sine(), RATE)], ["ssnr"], progress=True)
    assert capsys.readouterr() == ("", "")


def test_progress_bar_on_a_terminal(monkeypatch, capsys):
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    table = metrics.score_pairs([("a", sine(), sine(), RATE)] * 3, ["ssnr"])
    assert len(table) == 3 and "Scoring" in capsys.readouterr().err
    assert len(metrics.score_pairs(iter([("a", sine(), sine(), RATE)]), ["ssnr"])) == 1  # length unknown


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_csv_round_trip_is_exact(tmp_path):
    table = metrics.score_pairs(four_pairs(), progress=False)
    table.rows[0]["name"] = 'awkward, "name"; ä'
    table.to_csv(tmp_path / "new" / "scores.csv")
    back = metrics.ScoreTable.from_csv(tmp_path / "new" / "scores.csv")
    assert back.metrics == table.metrics and back.failures() == table.failures()
    assert repr(back.rows) == repr(table.rows)  # repr, because nan != nan
    assert repr(back.means()) == repr(table.means())


def test_from_csv_refuses_other_files(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read as a score table"):
        metrics.ScoreTable.from_csv(tmp_path / "missing.csv")
    (tmp_path / "other.csv").write_text("name,age\nx,3\n")
    with pytest.raises(ValueError, match=r"has the columns name, age; expected name, sample_rate, seconds"):
        metrics.ScoreTable.from_csv(tmp_path / "other.csv")


def test_markdown_names_mode_n_and_failures():
    text = metrics.score_pairs(four_pairs(), ["pesq_wb", "stoi", "covl", "llr"], progress=False).to_markdown("my model")
    lines = text.splitlines()
    assert lines[0] == "|  | PESQ-WB | STOI | COVL | LLR | n |"
    assert lines[1] == "|---|---|---|---|---|---|"
    assert lines[2].startswith("| my model | ") and lines[2].count("(n=2)") == 4 and lines[2].endswith("| 4 |")
    assert "PESQ-WB: wide-band MOS-LQO (P.862.2)." in text
    assert "CSIG, CBAK, COVL: with wide-band MOS-LQO (16 kHz)." in text
    assert "Lower is better: LLR." in text
    assert "my model, STOI: 2 of 4 failed (1 x enhanced is silent, 1 x enhanced has NaN or inf)." in text


def test_markdown_of_several_systems_and_of_total_failure():
    clean = speech_like(8000)
    noisy = metrics.score_pairs([("a", clean, degraded(clean, "noisy"), 8000)], ["pesq_nb", "csig"], progress=False)
    silent = metrics.score_pairs([("a", clean, 0 * clean, 8000)], ["pesq_nb", "stoi"], progress=False)
    text = scoring.markdown({"noisy": noisy, "silent": silent})
    lines = text.splitlines()
    assert lines[0] == "|  | PESQ-NB | CSIG | STOI | n |"
    assert lines[2] == f"| noisy | {noisy.means()['pesq_nb']:.2f} | {noisy.means()['csig']:.2f} | n/a | 1 |"
    assert lines[3] == "| silent | n/a | n/a | n/a | 1 |"
    assert "CSIG, CBAK, COVL: with raw narrow-band PESQ (8 kHz)." in text
    assert "silent, PESQ-NB: 1 of 1 failed (1 x enhanced is silent)." in text
    assert math.isnan(silent.means()["stoi"])
    assert str(noisy).endswith("Failures: none.")


def test_to_pandas(monkeypatch):
    table = metrics.score_pairs(four_pairs(), ["stoi"], progress=False)
    pytest.importorskip("pandas", reason="pandas is an extra")
    frame = table.to_pandas()
    assert list(frame.columns) == ["name", "sample_rate", "seconds", "stoi", "failures"] and len(frame) == 4
    assert frame["stoi"].mean() == pytest.approx(table.means()["stoi"])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install pandas"):
        table.to_pandas()


# ---- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    clean = speech_like(seconds=1.0)
    for i, name in enumerate(("b", "a")):
        audio.write(tmp_path / "clean" / f"{name}.wav", clean, RATE)
        audio.write(tmp_path / "enhanced" / f"{name}.flac", clean + 0.01 * (i + 1) * noise_like(len(clean)), RATE)
    (tmp_path / "clean" / "README.txt").write_text("not audio")
    return tmp_path / "clean", tmp_path / "enhanced"


def test_evaluate_folders(folders):
    table = metrics.evaluate_folders(*folders, ["ssnr", "stoi"], progress=False)
    assert [row["name"] for row in table.rows] == ["a", "b"]
    assert table.rows[0]["ssnr"] < table.rows[1]["ssnr"] and table.failures() == {}
    pooled = metrics.evaluate_folders(*map(str, folders), ["ssnr", "stoi"], workers=1, progress=False)
    assert pooled.means() == pytest.approx(table.means(), rel=1e-9)


def test_evaluate_folders_refuses_what_does_not_pair(folders):
    clean, enhanced = folders
    audio.write(clean / "only_clean.wav", sine(), RATE)
    with pytest.raises(AudioError, match=r"1 of 3 files in '.*clean' have no partner in '.*': only_clean\.wav\."):
        metrics.evaluate_folders(clean, enhanced)
    audio.write(enhanced / "only_clean.wav", sine(), RATE)
    for i in range(7):
        audio.write(enhanced / f"extra{i}.wav", sine(), RATE)
    with pytest.raises(AudioError, match=r"7 of 10 files in '.*enhanced' .*extra4\.wav and 2 more\. Expected the same"):
        metrics.evaluate_folders(clean, enhanced)
    audio.write(enhanced / "a.ogg", sine(), RATE)
    with pytest.raises(AudioError, match=r"holds both 'a\.flac' and 'a\.ogg'"):
        metrics.evaluate_folders(clean, enhanced)


def test_evaluate_folders_refuses_rates_lengths_and_channels(folders):
    clean, enhanced = folders
    audio.write(enhanced / "a.flac", speech_like(8000, 1.0), 8000)
    with pytest.raises(AudioError, match=r"a\.wav' has 16000 Hz and '.*a\.flac' 8000 Hz; a pair must have one rate"):
        metrics.evaluate_folders(clean, enhanced, progress=False)
    audio.write(enhanced / "a.flac", speech_like(seconds=0.5), RATE)
    with pytest.raises(AudioError, match=r"'a': clean has 16000 samples and enhanced 8000"):
        metrics.evaluate_folders(clean, enhanced, progress=False)
    audio.write(enhanced / "a.flac", np.stack([sine(), sine()], axis=1), RATE)
    with pytest.raises(AudioError, match=r"'a': enhanced has 2 channels"):
        metrics.evaluate_folders(clean, enhanced, progress=False)


def test_evaluate_folders_refuses_folders_without_audio(folders, tmp_path):
    clean, _ = folders
    with pytest.raises(AudioError, match=r"nowhere' is missing; expected a folder"):
        metrics.evaluate_folders(clean, tmp_path / "nowhere")
    with pytest.raises(AudioError, match=r"a\.wav' is a file; expected a folder"):
        metrics.evaluate_folders(clean / "a.wav", clean)
    with pytest.raises(AudioError, match=r"holds no audio file.*It has sub-folders: name one of them"):
        metrics.evaluate_folders(clean, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(AudioError, match=r"empty' holds no audio file \(\.wav, \.flac, \.ogg, \.mp3\)\.$"):
        metrics.evaluate_folders(tmp_path / "empty", clean)


# ---- the modules -----------------------------------------------------------------------------------------------------


def test_import_loads_only_numpy():
    code = (
        "import sys, ganse_tf.metrics, ganse_tf.scoring; "
        "heavy = {'tensorflow', 'keras', 'librosa', 'scipy', 'pesq', 'pystoi', 'soundfile', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("module", [metrics, scoring])
def test_docstring_examples(module):
    if module is metrics:
        pytest.importorskip("jiwer", reason="the example of wer needs it")
    result = doctest.testmod(module)
    assert result.attempted >= 3 and result.failed == 0
