"""Calibration against the published noisy row: the verdict, and the reasons it finds in the audio and in the scores."""

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from data_prep import calibrate
from data_prep.calibrate import REFERENCE, Calibration, explain
from ganse_tf import audio, data

PERFECT = {name: ref.tool for name, ref in REFERENCE.items()}


class Table:
    """What `score_pairs` returns, with numbers of our choice."""

    def __init__(self, scores, failures=None):
        self.scores, self.reasons = scores, failures or {}

    def means(self):
        return self.scores

    def failures(self):
        return self.reasons


def score(scores):
    def replacement(items, metrics, workers, progress):
        assert set(metrics) == set(REFERENCE)
        list(items)
        return Table(scores)

    return replacement


def result(changes=None, n_pairs=calibrate.PAIRS, problems=(), failures=None):
    found = Calibration(n_pairs, {**PERFECT, **(changes or {})}, failures or {}, list(problems))
    found.explanations = explain(found)
    return found


def pairs_on_disk(folder, change=None, n=3, rate=48000):
    """Wide-band "speech" and noise at 48 kHz, converted by `change(wav)` (default: soxr), as noisy/ and clean/."""
    rng = np.random.default_rng(0)
    change = change or (lambda wav: audio.resample(wav, rate, 16000))
    for side in ("noisy", "clean"):
        (folder / side).mkdir(parents=True)
    for i in range(n):
        envelope = np.repeat(rng.uniform(0.05, 1, 16), rate // 8)
        clean = 0.1 * envelope * lfilter([1], [1, -0.5], rng.standard_normal(len(envelope)))
        noisy = clean + 0.05 * lfilter([1], [1, -0.5], rng.standard_normal(len(clean)))
        for side, wav in (("noisy", noisy), ("clean", clean)):
            soundfile.write(folder / side / f"p232_{i:03d}.wav", change(wav), 16000, subtype="PCM_16")
    return folder


def test_the_published_row_passes_and_prints():
    found = result()
    assert found.ok and "Calibrated" in str(found)
    for text in ("| PESQ-WB | 1.972 | 1.97 | 1.972 | +0.000 | 0.005 | ok |", "SSNR", "0.912", "824 files"):
        assert text in str(found)


def test_tolerances_are_those_of_the_table():
    assert {name: (ref.literature, ref.tool, ref.tolerance) for name, ref in REFERENCE.items()} == {
        "pesq_wb": (1.97, 1.972, 0.005), "csig": (3.35, 3.345, 0.01), "cbak": (2.44, 2.443, 0.01),
        "covl": (2.63, 2.632, 0.01), "ssnr": (1.68, 1.679, 0.02), "stoi": (0.92, 0.912, 0.002),
    }  # fmt: skip
    assert result({"pesq_wb": 1.9769}).ok and not result({"pesq_wb": 1.9771}).ok
    assert result({"ssnr": 1.66}).ok and not result({"ssnr": 1.65}).ok


def test_other_numbers_of_files_are_not_judged():
    found = result(n_pairs=41)
    assert not found.ok and "41 files are not the test set of 824" in str(found) and "| n/a |" in str(found)


def test_narrow_band_pesq_is_recognised():
    assert "narrow-band scale" in str(result({"pesq_wb": 2.79, "covl": 3.1, "csig": 3.8, "cbak": 2.8}))


def test_pesq_alone_is_off():
    assert "SSNR and STOI are right, so the audio is" in str(result({"pesq_wb": 1.99, "covl": 2.65}))


def test_another_definition_of_ssnr():
    assert "6.13 dB for this row" in str(result({"ssnr": 6.13, "cbak": 2.79}))


def test_many_small_differences_point_at_the_resampler():
    small = {"pesq_wb": 1.98, "csig": 3.36, "ssnr": 1.71, "stoi": 0.915}
    assert "resampler: several scores are slightly off" in str(result(small))
    assert "resampler: several" not in str(result(small, problems=["pairing: shifted"]))


def test_failures_are_reported():
    found = result(failures={"pesq_wb": {"no utterance": 2}})
    assert not found.ok and "pesq_wb failed on some files" in str(found)


def test_good_pairs_raise_no_suspicion(tmp_path):
    found = calibrate.calibrate(pairs_on_disk(tmp_path), score=score(PERFECT))
    assert found.audio_problems == [] and found.n_pairs == 3


def test_strangers_are_found(tmp_path):
    folder = pairs_on_disk(tmp_path)
    names = sorted((folder / "clean").iterdir())
    contents = [p.read_bytes() for p in names]
    for path, other in zip(names, contents[1:] + contents[:1]):
        path.write_bytes(other)
    (problem,) = calibrate.calibrate(folder, score=score(PERFECT)).audio_problems
    assert problem.startswith("pairing: 3 noisy files do not contain their clean file (p232_000, p232_001, p232_002)")


def test_a_shift_is_found_and_measured(tmp_path):
    folder = pairs_on_disk(tmp_path)
    wav, rate = soundfile.read(folder / "noisy" / "p232_001.wav")
    soundfile.write(folder / "noisy" / "p232_001.wav", np.roll(wav, 16), rate)
    (problem,) = calibrate.calibrate(folder, score=score(PERFECT)).audio_problems
    assert "1 noisy files are shifted" in problem and "p232_001 by 16 samples" in problem


def test_a_change_of_level_is_found(tmp_path):
    folder = pairs_on_disk(tmp_path)
    for path in (folder / "noisy").iterdir():
        wav, rate = soundfile.read(path)
        soundfile.write(path, wav / 2, rate)
    (problem,) = calibrate.calibrate(folder, score=score(PERFECT)).audio_problems
    assert problem.startswith("level: speech in the noisy files is -6.0 dB")


@pytest.mark.parametrize("how", ["decimated", "interpolated", "was 8 kHz", "two resamplers"])
def test_bad_conversions_are_found(tmp_path, how):
    count = iter(range(100))
    change = {
        "decimated": lambda wav: wav[::3],
        "interpolated": lambda wav: np.interp(np.arange(0, len(wav) - 3, 3) + 0.5, np.arange(len(wav)), wav),
        "was 8 kHz": lambda wav: audio.resample(audio.resample(wav, 48000, 8000), 8000, 16000),
        "two resamplers": lambda wav: wav[::3] if next(count) % 2 else audio.resample(wav, 48000, 16000),
    }[how]  # the noisy side is written first
    problems = calibrate.calibrate(pairs_on_disk(tmp_path, change), score=score(PERFECT)).audio_problems
    (problem,) = [p for p in problems if p.startswith("resampler: ")]  # folded energy changes the level, too
    expected = {"was 8 kHz": "nothing above 4 kHz", "two resamplers": "two resamplers"}.get(how, "runs on to 8 kHz")
    assert expected in problem


def test_other_rates_are_explained_and_not_scored(tmp_path):
    for side in ("noisy", "clean"):
        (tmp_path / side).mkdir()
        soundfile.write(tmp_path / side / "p232_001.wav", np.random.default_rng(0).normal(0, 0.1, 8000), 8000)
    found = calibrate.calibrate(tmp_path, score=None)
    assert "p232_001 has 8000 Hz" in str(found) and "wide-band PESQ does not exist at 8 kHz" in str(found) and not found.ok


def test_unequal_lengths_are_a_pairing_problem(tmp_path):
    folder = pairs_on_disk(tmp_path)
    wav, rate = soundfile.read(folder / "noisy" / "p232_001.wav")
    soundfile.write(folder / "noisy" / "p232_001.wav", wav[:-100], rate)
    found = calibrate.calibrate(folder, score=score(PERFECT))
    assert found.n_pairs == 2 and found.audio_problems[0].startswith("pairing: p232_001")


def test_the_manifest_chooses_the_test_split(tmp_path):
    header = "name,noisy,clean,sample_rate,speaker,text,noise,snr_db,split,seconds\n"
    folder = pairs_on_disk(tmp_path)
    lines = [f"p232_{i:03d},noisy/p232_{i:03d}.wav,clean/p232_{i:03d}.wav,16000,p232,,,,{split},2\n"
             for i, split in enumerate(("train", "test", "test"))]  # fmt: skip
    (folder / "manifest.csv").write_text(header + "".join(lines))
    assert [p.name for p in calibrate.test_pairs(folder)] == ["p232_001", "p232_002"]
    (folder / "manifest.csv").write_text(header + lines[0])
    with pytest.raises(audio.AudioError, match="has no rows of the test split. Prepare it with --parts test"):
        calibrate.test_pairs(folder)


def test_real_scores_of_a_few_pairs():
    """The real metrics, in this process, on toy pairs: numbers come out, and no verdict."""
    folder_pairs = [p.load() for p in data.toy_pairs("test", n=2, snr_db=5, kinds="pink")]
    from ganse_tf import metrics

    items = [(str(i), clean, noisy, rate) for i, (noisy, clean, rate) in enumerate(folder_pairs)]
    means = metrics.score_pairs(items, metrics=tuple(REFERENCE), progress=False).means()
    assert 1 < means["pesq_wb"] < 4 and set(means) == set(REFERENCE)


def test_real_pairs_raise_no_suspicion(shared_data):
    """41 pairs of the real test set: aligned, level, one resampler; too few for a verdict."""
    found = calibrate.calibrate(shared_data / "pairs" / "vbdemand_p232", score=score(PERFECT))
    assert found.n_pairs == 41 and found.audio_problems == [] and not found.ok
