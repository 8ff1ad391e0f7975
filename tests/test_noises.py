"""Noises are judged by their numbers: level, slope, crest factor, repeatability."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.signal
import scipy.stats

from ganse_tf import corpus, noises

RATE = 16000


def octaves(wav, rate=RATE):
    """Power density in dB of the octaves from 62.5 Hz to 8 kHz."""
    f, p = scipy.signal.welch(wav, rate, nperseg=4096)
    return np.array([10 * np.log10(p[(f >= low) & (f < 2 * low)].mean()) for low in 62.5 * 2.0 ** np.arange(7)])


@pytest.fixture(scope="module")
def minute():
    return {kind: noises.make(kind, 60 * RATE, seed=3) for kind in noises.KINDS}


@pytest.mark.parametrize("kind", noises.KINDS)
@pytest.mark.parametrize("n_samples", [2, 100, RATE, 12345])
def test_level_dtype_and_repeatability(kind, n_samples):
    wav = noises.make(kind, n_samples, seed=5)
    assert wav.dtype == np.float32 and wav.shape == (n_samples,)
    assert np.isfinite(wav).all()
    assert abs(wav.mean()) < 1e-5
    assert np.sqrt(np.mean(wav.astype(np.float64) ** 2)) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(wav, noises.make(kind, n_samples, seed=5))
    if n_samples >= 100:
        other = noises.make(kind, n_samples, seed=6)
        assert abs(np.mean(wav * other)) < 0.6  # not the same recording again


def test_kinds_differ_with_the_same_seed(minute):
    kinds = list(noises.KINDS)
    correlation = np.corrcoef([minute[kind] for kind in kinds])
    assert np.abs(correlation - np.eye(len(kinds))).max() < 0.05


def test_white_is_flat_and_gaussian(minute):
    levels = octaves(minute["white"])
    assert levels.max() - levels.min() < 0.7
    assert scipy.stats.kurtosis(minute["white"]) == pytest.approx(0, abs=0.05)


def test_pink_falls_3_db_per_octave(minute):
    slope = np.polyfit(np.arange(7), octaves(minute["pink"]), 1)[0]
    assert slope == pytest.approx(-3.01, abs=0.15)


def test_speech_shaped_has_the_spectrum_of_the_training_speakers(minute):
    """Third octaves: the constants in the file against the corpus, and the noise against the constants."""
    speech = np.concatenate([u.wav for u in corpus.toy_corpus("train")])
    f, measured = scipy.signal.welch(speech, RATE, nperseg=1024)
    made = scipy.signal.welch(minute["speech_shaped"], RATE, nperseg=1024)[1]
    centres = np.array(noises._SPEECH_HZ)
    bands = [(f >= c / 2 ** (1 / 6)) & (f <= c * 2 ** (1 / 6)) for c in centres]
    for power, limit in ((measured, 1.0), (made, 3.0)):  # the noise interpolates between bands, hence the wider limit
        levels = np.array([10 * np.log10(power[band].mean()) for band in bands])
        table = np.array(noises._SPEECH_DB)
        difference = levels - levels.mean() - (table - table.mean())
        assert np.abs(difference).max() < limit


def test_babble_sounds_like_many_not_like_one(minute):
    """Speech spectrum, and a level that varies much less than a single talker's."""

    def level_spread(wav):
        frames = wav[: len(wav) // 4000 * 4000].reshape(-1, 4000)  # 0.25 s
        return np.std(10 * np.log10(np.mean(frames**2, 1) + 1e-6))

    one = np.concatenate([u.wav for u in corpus.toy_corpus("train") if u.speaker == "f01"])
    assert level_spread(minute["babble"]) < 0.6 * level_spread(one / one.std())
    assert octaves(minute["babble"])[2] - octaves(minute["babble"])[6] > 15  # 250-500 Hz over 4-8 kHz


def test_babble_leaves_out_excluded_speakers():
    talkers = {u.speaker for u in corpus.toy_corpus("train")}
    chosen = sorted(talkers)[: len(talkers) - 6]
    with_all, without = noises.make("babble", RATE, seed=1), noises.make("babble", RATE, seed=1, exclude=chosen)
    assert not np.array_equal(with_all, without)
    everyone = noises.make("babble", RATE, seed=1, exclude=talkers)  # nobody left: hiss instead of a crash
    assert np.isfinite(everyone).all() and scipy.stats.kurtosis(everyone) == pytest.approx(0, abs=0.2)


def test_engine_is_harmonic_below_and_weak_above(minute):
    short = noises.make("engine", 4096, seed=2)  # a quarter of a second: the speed hardly changes
    spectrum = np.abs(np.fft.rfft(short * np.hanning(4096)))[:200]
    assert spectrum.max() / np.median(spectrum) > 8
    levels = octaves(minute["engine"])
    assert levels[:3].mean() - levels[-1] > 25


def test_crest_factors_tell_the_kinds_apart(minute):
    crest = {kind: np.abs(minute[kind]).max() for kind in noises.KINDS}
    assert crest["clicks"] > 12
    assert 4 < crest["white"] < 6 and 3 < crest["engine"] < 7
    assert crest["clicks"] > 2 * crest["babble"] > 2 * crest["white"]


def test_clicks_are_as_frequent_as_promised(minute):
    envelope = np.abs(minute["clicks"])
    onsets, _ = scipy.signal.find_peaks(envelope, height=0.15 * envelope.max(), distance=RATE // 50)
    assert 0.5 * noises.CLICKS_PER_SECOND < len(onsets) / 60 < 1.3 * noises.CLICKS_PER_SECOND
    assert octaves(minute["clicks"])[4:6].min() > octaves(minute["clicks"])[:3].max() + 20  # rings at 1-4 kHz


def test_wind_is_low_and_gusty(minute):
    levels = octaves(minute["wind"])
    assert levels[0] - levels[5] > 25

    def gusts(wav):
        return np.std(10 * np.log10(np.mean(wav.reshape(-1, RATE), 1) ** 2 + np.var(wav.reshape(-1, RATE), 1)))

    assert gusts(minute["wind"]) > 3 * gusts(minute["pink"]) and gusts(minute["wind"]) > 3


@pytest.mark.parametrize("kind", noises.KINDS)
def test_other_rates(kind):
    wav = noises.make(kind, 8000, sample_rate=8000, seed=1)
    assert wav.shape == (8000,) and wav.std() == pytest.approx(1, abs=1e-4)


def test_another_process_makes_the_same_noise():
    """No salted hash(), no global state."""
    code = "from ganse_tf import noises; print([float(noises.make(k, 500, seed=9)[123]) for k in noises.KINDS])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(out) == [float(noises.make(kind, 500, seed=9)[123]) for kind in noises.KINDS]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("rain", 100), "Unknown noise 'rain'. The kinds are: white, pink"),
        (("white", 1), "at least 2 samples"),
        (("white", 1.5), "whole numbers"),
        (("white", 100, 0), "sample_rate is 0"),
        (("white", 100, 16000, -1), "seed is -1"),
    ],
)
def test_bad_requests_are_explained(arguments, message):
    with pytest.raises(ValueError, match=message):
        noises.make(*arguments)
