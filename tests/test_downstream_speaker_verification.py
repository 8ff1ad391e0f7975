"""GMM-UBM: MAP arithmetic, features that ignore level, a protocol that tells speakers apart, readable errors."""

import builtins
from types import SimpleNamespace

import numpy as np
import pytest

from ganse_tf import audio, noises
from ganse_tf.downstream import speaker_verification as sv

sklearn = pytest.importorskip("sklearn", reason="scikit-learn comes with the extra ganse_tf[downstream]")
RATE = 16000


def hiss(seed, seconds=1.0):
    return (0.1 * np.random.default_rng(seed).normal(size=int(seconds * RATE))).astype(np.float32)


@pytest.fixture(scope="module")
def protocol():
    """Three toy speakers with four enrolment and three test utterances, and a small background."""
    toy = sv.toy_protocol(n_enrol=4, n_test=3)
    people = ("f07", "m07", "m08")
    return sv.Protocol(
        {name: wavs[:2] for name, wavs in toy.background.items()},
        {name: toy.enrolment[name] for name in people},
        {name: toy.test[name] for name in people},
        toy.sample_rate,
    )


def test_map_adaptation_is_a_weighted_mean():
    ubm = SimpleNamespace(means_=np.array([[1.0], [5.0]]), predict_proba=lambda x: np.tile([1.0, 0.0], (len(x), 1)))
    means = sv.map_means(ubm, np.full((8, 1), 3.0), relevance=16)
    np.testing.assert_allclose(means, [[8 / 24 * 3 + 16 / 24 * 1], [5.0]])  # unseen components stay


def test_mfcc_has_57_normalised_dimensions_and_ignores_level():
    wav = hiss(0)
    features = sv.mfcc(wav, RATE)
    assert features.shape[1] == 57 and features.dtype == np.float32
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(features, sv.mfcc(wav / 8, RATE), atol=1e-2)


def test_mfcc_drops_pauses_and_takes_silence():
    wav = hiss(0)
    pause = 1e-4 * np.random.default_rng(0).normal(size=RATE).astype(np.float32)
    assert len(sv.mfcc(np.concatenate([wav, pause]), RATE)) < 1.1 * len(sv.mfcc(wav, RATE))
    assert np.all(np.isfinite(sv.mfcc(np.zeros(RATE, np.float32), RATE)))


def test_mfcc_refuses_short_sound():
    with pytest.raises(audio.AudioError, match=r"at least 0.1 s; received shape \(800,\)"):
        sv.mfcc(np.zeros(800, np.float32), RATE)


def test_own_speech_scores_above_other_speech(protocol):
    background = [sv.mfcc(w, RATE) for wavs in protocol.background.values() for w in wavs]
    verifier = sv.SpeakerVerifier(n_components=8).fit(background)
    for name, wavs in protocol.enrolment.items():
        verifier.enrol(name, [sv.mfcc(w, RATE) for w in wavs])
    for name, wavs in protocol.test.items():
        scores = verifier.scores(sv.mfcc(wavs[0], RATE))
        assert max(scores, key=scores.get) == name


def test_verify_gives_one_row_per_front_end_and_snr(protocol):
    front_ends = {"none": None, "mute": lambda wav, rate: np.zeros_like(wav)}
    rows = sv.verify(protocol, front_ends, noises.make("white", 4 * RATE), snrs_db=(0, None), n_components=8)
    assert [(r["front_end"], r["snr_db"]) for r in rows] == [("none", 0), ("none", None), ("mute", 0), ("mute", None)]
    assert all(r["n_target"] == 9 and r["n_impostor"] == 18 for r in rows)
    by_name = {(r["front_end"], r["snr_db"]): r["eer"] for r in rows}
    assert by_name["none", None] < 0.2
    assert 0.4 < by_name["mute", None] < 0.6  # nothing to hear: guessing
    text = sv.table(rows)
    assert text.splitlines()[0] == "| EER % | 0 dB | clean | mean |"
    assert text.splitlines()[-1].startswith(f"| mute | {100 * by_name['mute', 0]:.2f} |")


def test_multi_condition_models_see_noise(protocol):
    noise = noises.make("white", 4 * RATE)
    clean = sv.verify(protocol, {"none": None}, noise, snrs_db=(10,), n_components=8)
    multi = sv.verify(protocol, {"none": None}, noise, snrs_db=(10,), n_components=8, multi_condition=True)
    assert multi[0]["eer"] <= clean[0]["eer"]


def test_toy_protocol_keeps_people_and_utterances_apart():
    protocol = sv.toy_protocol(n_enrol=2, n_test=3)
    assert set(protocol.enrolment) == set(protocol.test) and not set(protocol.background) & set(protocol.test)
    assert len(protocol.test) >= 6
    for name, wavs in protocol.test.items():
        assert len(wavs) == 3 and len(protocol.enrolment[name]) == 2
        assert not any(np.array_equal(a, b) for a in wavs for b in protocol.enrolment[name])


def test_folder_protocol_reads_librispeech_layout(tmp_path):
    for speaker in ("61", "84"):
        for chapter in ("1", "2"):
            (tmp_path / "own" / speaker / chapter).mkdir(parents=True)
            for i in range(2):
                audio.write(tmp_path / "own" / speaker / chapter / f"{speaker}-{chapter}-{i}.flac", hiss(i, 0.2), RATE)
    (tmp_path / "others" / "7").mkdir(parents=True)
    (tmp_path / "others" / "61").mkdir(parents=True)
    audio.write(tmp_path / "others" / "7" / "a.wav", hiss(0, 0.2), RATE)
    audio.write(tmp_path / "others" / "61" / "a.wav", hiss(0, 0.2), RATE)
    protocol = sv.folder_protocol(tmp_path / "own", background=tmp_path / "others", n_enrol=3)
    assert {k: len(v) for k, v in protocol.enrolment.items()} == {"61": 3, "84": 3}
    assert {k: len(v) for k, v in protocol.test.items()} == {"61": 1, "84": 1}
    assert set(protocol.background) == {"7"}  # a claimed speaker never trains the UBM
    with pytest.raises(FileNotFoundError, match="more than n_enrol=4 files"):
        sv.folder_protocol(tmp_path / "own", n_enrol=4)
    with pytest.raises(FileNotFoundError, match="one folder per speaker"):
        sv.folder_protocol(tmp_path / "own" / "61" / "1")


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="set n_components=2"):
        sv.SpeakerVerifier(n_components=64).fit([np.zeros((20, 57))])
    with pytest.raises(ValueError, match="call fit"):
        sv.SpeakerVerifier().enrol("anna", [np.zeros((20, 57))])
    with pytest.raises(ValueError, match="Nobody is enrolled"):
        sv.SpeakerVerifier().scores(np.zeros((20, 57)))


def test_missing_scikit_learn_is_explained(monkeypatch):
    real_import = builtins.__import__

    def without_sklearn(name, *args, **kwargs):
        if name.split(".")[0] == "sklearn":
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(ImportError, match=r"pip install 'ganse_tf\[downstream\]'"):
        sv.SpeakerVerifier(n_components=1).fit([np.zeros((20, 57))])


@pytest.mark.slow
def test_noise_raises_the_error_rate_on_the_toy_corpus():
    protocol = sv.toy_protocol()
    rows = sv.verify(protocol, {"none": None}, noises.make("white", 40 * RATE), snrs_db=(0, None), n_components=32)
    noisy, clean = (row["eer"] for row in rows)
    assert clean < 0.1 < noisy
