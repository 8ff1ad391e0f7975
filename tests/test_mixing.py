"""Mixtures: exact SNR, repeatable, disjoint parts, no clipping; toy pairs; the endless Mixer."""

import doctest
import subprocess
import sys

import numpy as np
import pytest

from ganse_tf import audio, data, mixing, noises
from ganse_tf.audio import AudioError

RATE = 16000


def snr(noisy, clean):
    noisy, clean = noisy.astype(np.float64), clean.astype(np.float64)
    return 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))


@pytest.fixture(scope="module")
def speech():
    return data.toy_corpus("train")[:6]


def test_docstring_examples():
    assert doctest.testmod(mixing).failed == 0


@pytest.mark.parametrize("snr_db", [-20, -5, 0, 2.5, 20, 40])
@pytest.mark.parametrize("kind", ["white", "clicks", "babble"])
def test_snr_is_exact(speech, snr_db, kind):
    wav = speech[0].wav
    noisy, clean = data.mix(wav, 37 * noises.make(kind, 3 * len(wav)), snr_db, name="a")
    assert noisy.dtype == clean.dtype == np.float32 and noisy.shape == clean.shape == wav.shape
    assert snr(noisy, clean) == pytest.approx(snr_db, abs=0.01)
    assert max(np.abs(noisy).max(), np.abs(clean).max()) <= 0.9901


def test_scaling_against_clipping_is_common_and_only_when_needed(speech):
    wav = speech[0].wav
    noise = noises.make("white", len(wav))
    noisy, clean, facts = data.mix(wav, noise, 20, details=True)
    assert facts["scale"] == 1 and np.array_equal(clean, wav)
    noisy, clean, facts = data.mix(wav, noise, -20, details=True)
    assert facts["scale"] < 1
    assert np.abs(noisy).max() == pytest.approx(0.99, abs=1e-4)
    np.testing.assert_allclose(clean, facts["scale"] * wav, rtol=1e-5)
    np.testing.assert_allclose(noisy, clean + facts["gain"] * noise, atol=1e-5)


def test_same_name_and_seed_same_mixture(speech):
    wav, noise = speech[0].wav, noises.make("pink", 60 * RATE)
    offsets = {
        key: data.mix(wav, noise, 5, name=key[0], seed=key[1], details=True)[2]["noise_offset"]
        for key in [("a", 0), ("b", 0), ("a", 1)]
    }
    assert len(set(offsets.values())) == 3
    first, again = data.mix(wav, noise, 5, name="a"), data.mix(wav, noise, 5, name="a")
    np.testing.assert_array_equal(first[0], again[0])
    louder = data.mix(wav, 10 * noise, 5, name="a")
    np.testing.assert_allclose(first[0], louder[0], atol=1e-6)  # the noise's own level does not matter


def test_another_process_draws_the_same():
    code = (
        "import numpy as np; from ganse_tf import data; t = np.sin(np.arange(500.));"
        "print(data.mix(t, np.arange(9000.) / 9000, 3, name='x', seed=4, details=True)[2]['noise_offset'])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    wav = np.sin(np.arange(500.0))
    assert int(out) == data.mix(wav, np.arange(9000.0) / 9000, 3, name="x", seed=4, details=True)[2]["noise_offset"]


def test_parts_are_disjoint():
    """The noise is a ramp, so each mixture shows which samples it used."""
    ramp = 1 + np.arange(10000) / 10000
    wav = np.full(500, 0.1)
    used = {}
    for part in ((0.0, 0.8), (0.8, 1.0)):
        seen = set()
        for i in range(200):
            noisy, clean, facts = data.mix(wav, ramp, 10, name=str(i), part=part, details=True)
            values = (noisy.astype(np.float64) - clean) / facts["gain"]
            seen.update(np.rint((values - 1) * 10000).astype(int).tolist())
        used[part] = seen
    train, test = used.values()
    assert min(train) >= 0 and max(train) < 8000 and min(test) >= 8000 and max(test) < 10000
    assert len(train) > 7000 and len(test) > 1900


def test_short_noise_goes_round():
    noisy, clean, facts = data.mix(np.full(1000, 0.1), np.arange(1, 301.0) / 300, 0, details=True)
    values = (noisy.astype(np.float64) - clean) / facts["gain"]
    np.testing.assert_allclose(values[:700], values[300:], atol=1e-5)
    assert values[0] == pytest.approx((facts["noise_offset"] + 1) / 300, abs=1e-5)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(clean=np.zeros(100)), "the clean signal is silent"),
        (dict(noise=np.zeros(100)), "the noise signal is silent"),
        (dict(clean=np.zeros((100, 2))), "clean has 2 channels; expected mono"),
        (dict(clean=np.array([np.nan] * 100)), "clean contains NaN"),
        (dict(noise=np.zeros(0)), "noise is empty"),
        (dict(clean=np.ones(100, np.int16)), "clean"),
        (dict(snr_db=np.inf), "snr_db is inf"),
        (dict(part=(0.5, 0.5)), "part is"),
        (dict(part=(0, 1.5)), "part is"),
        (dict(part=(0.1, 0.101)), "holds no sample"),
    ],
)
def test_bad_mixtures_are_explained(change, message):
    arguments = dict(clean=np.full(100, 0.1), noise=np.full(100, 0.1), snr_db=5) | change
    with pytest.raises(AudioError, match=message):
        data.mix(**arguments)


# ---- toy pairs -------------------------------------------------------------------------------------------------------


def test_toy_pairs():
    found = data.toy_pairs("test")
    assert len(found) == 88 and {pair.split for pair in found} == {"test"}
    for pair in found[:20]:
        noisy, clean, rate = pair.load()
        assert rate == 16000 and snr(noisy, clean) == pytest.approx(pair.snr_db, abs=0.01)
    combinations = {(pair.noise, pair.snr_db) for pair in found}
    assert combinations == {(kind, level) for kind in noises.KINDS for level in (0.0, 5.0, 10.0, 15.0)}
    assert {pair.speaker for pair in found[:30]} == {"f07", "f08", "m07", "m08"}
    assert any(pair.words for pair in found) and all(pair.text for pair in found)


def test_toy_pairs_repeat_and_vary():
    first, again, other = (data.toy_pairs("train", n=5, seed=seed) for seed in (0, 0, 1))
    assert [p.name for p in first] == [p.name for p in again] != [p.name for p in other]
    np.testing.assert_array_equal(first[3].noisy, again[3].noisy)
    np.testing.assert_array_equal(first[0].clean, data.toy_pairs("train", n=1)[0].clean)  # n cuts, nothing else
    only = data.toy_pairs("valid", n=4, snr_db=2.5, kinds=("wind", "white"))
    assert {p.noise for p in only} <= {"wind", "white"} and {p.snr_db for p in only} == {2.5}


def test_toy_babble_does_not_contain_the_speaker(monkeypatch):
    asked = []
    make = noises.make
    monkeypatch.setattr(noises, "make", lambda *a, **k: asked.append(k["exclude"]) or make(*a, **k))
    pairs = data.toy_pairs("train", n=5, kinds="babble")
    assert asked == [(pair.speaker,) for pair in pairs]


def test_toy_pairs_refuses_too_many():
    with pytest.raises(ValueError, match="n is 1000; choose 1 to 44"):
        data.toy_pairs("valid", n=1000)


# ---- Mixer -----------------------------------------------------------------------------------------------------------


def test_mixer_depends_on_seed_epoch_and_place_only(speech):
    def make(seed=0):
        return data.Mixer(speech, ["white", "babble"], seconds=1.0, seed=seed)

    mixer = make()
    forward = [mixer.at(2, i) for i in range(6)]
    backward = [make().at(2, i) for i in reversed(range(6))][::-1]
    for a, b in zip(forward, backward):
        np.testing.assert_array_equal(a.noisy, b.noisy)
        assert (a.name, a.snr_db, a.noise) == (b.name, b.snr_db, b.noise)
    np.testing.assert_array_equal(mixer[3].noisy, mixer.at(0, 3).noisy)
    assert not np.array_equal(mixer.at(0, 3).noisy, mixer.at(1, 3).noisy)
    assert not np.array_equal(mixer[3].noisy, make(seed=1)[3].noisy)
    np.testing.assert_array_equal(mixer[-1].noisy, mixer[5].noisy)


def test_mixer_hears_everybody_equally_often(speech):
    mixer = data.Mixer(speech, "white", length=12)
    names = [pair.name.rsplit("_", 2)[0] for pair in mixer]
    assert len(mixer) == len(names) == 12
    assert sorted(names) == sorted([u.name for u in speech] * 2)
    with pytest.raises(IndexError, match="length=12"):
        mixer[12]
    assert mixer.at(0, 1000).clean.any()


def test_mixer_keeps_its_promises(speech):
    mixer = data.Mixer(speech, list(noises.KINDS), snr_db=(-5, 15), seconds=1.5, level_db=(-35, -20), length=40)
    levels, snrs = [], []
    for pair in mixer:
        noisy, clean, rate = pair.load()
        assert len(clean) == len(noisy) == 24000 and rate == RATE
        assert snr(noisy, clean) == pytest.approx(pair.snr_db, abs=0.01)
        levels.append(10 * np.log10(np.mean(clean**2)))
        snrs.append(pair.snr_db)
        assert pair.text == "" and pair.words == ()  # a stretch is not the whole text
    assert -5 <= min(snrs) < 0 and 10 < max(snrs) <= 15
    assert -36 < min(levels) < -31 and -24 < max(levels) <= -19.99
    assert {pair.noise for pair in mixer} == set(noises.KINDS)


def test_mixer_choices_whole_utterances_and_padding(speech):
    mixer = data.Mixer(speech, "pink", snr_choices=(0, 10), length=20)
    assert {pair.snr_db for pair in mixer} == {0.0, 10.0}
    texts = {u.text: u for u in speech}
    pair = mixer[0]
    assert len(pair.clean) == len(texts[pair.text].wav) and pair.words == texts[pair.text].words
    short = data.Mixer([np.full(1000, 0.1, np.float32)], "white", seconds=0.1)[0]
    assert len(short.clean) == 1600 and not short.clean[1000:].any()
    assert (short.noisy - short.clean)[1000:].any()  # the noise goes on


def test_mixer_does_not_train_on_pauses():
    wav = np.zeros(160000, np.float32)
    wav[80000:84000] = 0.1 * np.sin(np.arange(4000))
    for pair in data.Mixer([wav], "white", seconds=0.5, length=20):
        assert pair.clean.any()


def test_mixer_skips_silent_stretches_of_noise(speech):
    """ESC-50 recordings, for one, are padded with digital zeros."""
    noise = np.zeros(160000, np.float32)
    noise[:40000] = noises.make("white", 40000)
    for pair in data.Mixer(speech, [noise], seconds=0.5, length=20):
        assert snr(pair.noisy, pair.clean) == pytest.approx(pair.snr_db, abs=0.01)
    with pytest.raises(AudioError, match="noise signal is silent"):
        data.Mixer(speech, [np.zeros(1000, np.float32)])[0]


def test_mixer_part_of_the_noise():
    ramp = (1 + np.arange(20000) / 20000).astype(np.float32)
    mixer = data.Mixer([np.full(500, 0.1, np.float32)], [ramp], snr_db=10, part=(0.8, 1), length=50)
    for pair in mixer:
        noise = pair.noisy.astype(np.float64) - pair.clean
        assert 1 < noise.max() / noise.min() < 2.0 / 1.8 + 0.01  # values between 1.8 and 2 only


def test_mixer_sources(tmp_path, speech):
    for u in speech[:3]:
        audio.write(tmp_path / "speech" / f"{u.name}.flac", u.wav, RATE)
    audio.write(tmp_path / "noise" / "deep" / "hum.wav", 0.1 * noises.make("wind", RATE), RATE)
    (tmp_path / "speech" / "manifest.csv").write_text(
        "name,clean\n" + "".join(f"{u.name},{u.name}.flac\n" for u in speech[:3])
    )
    folders = data.Mixer(tmp_path / "speech", tmp_path / "noise", length=4)
    manifest = data.Mixer(tmp_path / "speech" / "manifest.csv", [tmp_path / "noise" / "deep" / "hum.wav"], length=4)
    for a, b in zip(folders, manifest):
        np.testing.assert_array_equal(a.noisy, b.noisy)
        assert a.noise == "hum"
    mixed = data.Mixer(tmp_path / "speech", [tmp_path / "noise", "babble", noises.make("white", 999)], length=30)
    assert {pair.noise for pair in mixed} == {"hum", "babble", "noise_00002"}


def test_mixer_refuses_with_a_sentence(tmp_path, speech):
    good = [np.full(1000, 0.1, np.float32)]
    audio.write(tmp_path / "high" / "a.wav", np.full(1000, 0.1), 48000)
    (tmp_path / "empty").mkdir()
    (tmp_path / "m.csv").write_text("name,noisy\na,b.wav\n")
    for arguments, message in [
        ((tmp_path / "high", "white"), "has 48000 Hz; expected 16000 Hz. Training data is never resampled silently"),
        ((good, tmp_path / "high"), "has 48000 Hz; expected 16000 Hz"),
        ((tmp_path / "gone", "white"), "There is no speech '.*gone'"),
        ((good, "rain"), "There is no noise 'rain'.*built-in noises .white, pink"),
        ((tmp_path / "empty", "white"), "speech folder '.*empty' and its sub-folders hold no audio"),
        ((tmp_path / "m.csv", "white"), "has no column clean"),
        (([], "white"), "list of speech is empty"),
        ((good, []), "list of noise is empty"),
        ((good, "white", (15, -5)), "snr_db is .15, -5.; expected .lowest, highest. in dB"),
        ((good, "white", 0, -1.0), "seconds is -1.0"),
        ((good, "white", 0, None, None, 0), "length is 0"),
    ]:
        with pytest.raises(AudioError, match=message):
            data.Mixer(*arguments)
    with pytest.raises(AudioError, match="clean signal is silent"):
        data.Mixer([np.zeros(1000, np.float32)], "white")[0]
    with pytest.raises(AudioError, match="part is"):
        data.Mixer(good, "white", part=(1, 0))


def test_random_colour_is_gentle_and_repeats():
    rng = np.random.default_rng(0)
    impulse = np.zeros(512, np.float32)
    impulse[0] = 1.0
    gains_db = np.array([20 * np.log10(np.abs(np.fft.rfft(mixing.random_colour(impulse, rng)))) for _ in range(200)])
    assert np.abs(gains_db).max() < 17.0 and 2.0 < gains_db.std() < 6.0
    speech = data.toy_corpus("valid")[:3]
    plain, first, second = (data.Mixer(speech, "white", seconds=0.5, colour=c, seed=1).at(0, 0) for c in (False, True, True))
    np.testing.assert_array_equal(first.noisy, second.noisy)
    assert np.abs(first.clean - plain.clean).max() > 1e-3
    noise = first.noisy - first.clean
    assert 10 * np.log10(np.mean(first.clean**2) / np.mean(noise**2)) == pytest.approx(first.snr_db, abs=0.01)
