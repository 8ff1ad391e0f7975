"""The shipped corpus: intact, balanced, split by speaker, and what the generator makes."""

import csv
import json
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile as sf

from data_prep import manifest, toy_corpus
from ganse_tf import corpus

RATE = toy_corpus.SAMPLE_RATE


@pytest.fixture(scope="module")
def rows():
    return manifest.read(toy_corpus.SHIPPED / "manifest.csv")


@pytest.fixture(scope="module")
def shipped_version():
    """espeak-ng version that made the shipped files."""
    return (toy_corpus.SHIPPED / "README.txt").read_text().split("espeak-ng ")[1].split()[0].rstrip(".")


def test_every_file_agrees_with_its_checksum():
    assert toy_corpus.verify(toy_corpus.SHIPPED) == []
    assert manifest.validate(toy_corpus.SHIPPED / "manifest.csv") == []


def test_size_and_format(rows):
    files = [toy_corpus.SHIPPED / row["clean"] for row in rows]
    assert sum(path.stat().st_size for path in toy_corpus.SHIPPED.rglob("*") if path.is_file()) < 10e6
    assert 15 * 60 < sum(float(row["seconds"]) for row in rows) < 25 * 60
    for path in files[::17]:
        info = sf.info(path)
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16000, 1, "FLAC", "PCM_16")


def test_speakers_and_splits(rows):
    split_of = {row["speaker"]: row["split"] for row in rows}
    assert all(row["split"] == split_of[row["speaker"]] for row in rows)
    assert Counter(split_of.values()) == {"train": 10, "test": 4, "valid": 2}
    for split in ("train", "valid", "test"):
        genders = Counter(speaker[0] for speaker, where in split_of.items() if where == split)
        assert genders["f"] == genders["m"]


def test_sentences_of_one_split_are_not_spoken_in_another(rows):
    texts = {split: {r["text"] for r in rows if r["split"] == split and r["kind"] == "sentence"} for split in
             ("train", "valid", "test")}  # fmt: skip
    assert not texts["train"] & texts["test"] and not texts["train"] & texts["valid"]
    assert not texts["valid"] & texts["test"]
    assert min(len(found) for found in texts.values()) >= 12


def test_digits_are_balanced(rows):
    for speaker in {row["speaker"] for row in rows}:
        said = Counter(" ".join(r["text"] for r in rows if r["speaker"] == speaker and r["kind"] == "digits").split())
        assert set(said) == set(toy_corpus.DIGITS)
        assert max(said.values()) - min(said.values()) <= 1
    lengths = {len(row["text"].split()) for row in rows if row["kind"] == "digits"}
    assert lengths == {3, 4, 5, 6}


def test_level_and_no_clipping():
    for utterance in corpus.toy_corpus():
        assert 20 * np.log10(np.sqrt(np.mean(utterance.wav**2))) == pytest.approx(toy_corpus.LEVEL_DB, abs=0.01)
        assert np.abs(utterance.wav).max() < 0.9


def test_word_boundaries_are_exact():
    """Between words the sound is exactly zero; within a word it is not, up to its edges."""
    strings = [u for u in corpus.toy_corpus() if u.kind == "digits"]
    assert len(strings) == 192
    for utterance in strings:
        assert " ".join(word for word, _, _ in utterance.words) == utterance.text
        inside = np.zeros(len(utterance.wav), bool)
        end = 0
        for _, start, stop in utterance.words:
            a, b = round(start * RATE), round(stop * RATE)
            assert end < a < b <= len(utterance.wav)
            inside[a:b], end = True, b
            sound = np.flatnonzero(utterance.wav[a:b])
            assert sound[0] < 0.012 * RATE and b - a - sound[-1] < 0.012 * RATE
        assert not utterance.wav[~inside].any()


def test_speakers_sound_different():
    """The long-term spectrum of half of what a speaker says identifies the speaker of the other half."""

    def envelope(wavs):
        power = 0
        for wav in wavs:
            frames = np.lib.stride_tricks.sliding_window_view(wav, 512)[::256] * np.hanning(512)
            power = power + np.sum(np.abs(np.fft.rfft(frames)) ** 2, axis=0)
        bands = power[1:].reshape(-1, 8).sum(1)  # 250 Hz each
        level = 10 * np.log10(bands)
        return level - level.mean()

    speakers = {}
    for utterance in corpus.toy_corpus():
        speakers.setdefault(utterance.speaker, []).append(utterance.wav)
    halves = {name: (envelope(wavs[::2]), envelope(wavs[1::2])) for name, wavs in speakers.items()}
    names = sorted(halves)
    distance = np.array([[np.sqrt(np.mean((halves[a][0] - halves[b][1]) ** 2)) for b in names] for a in names])
    assert (distance.argmin(1) == np.arange(16)).all()  # the second half of everybody is found by the first
    others = distance[~np.eye(16, dtype=bool)]
    assert np.median(others) > 3 * np.median(np.diag(distance))


def pitch(wav):
    """Median fundamental frequency in Hz: peak of the autocorrelation of the loud frames."""
    frames = np.lib.stride_tricks.sliding_window_view(wav, 1024)[::512]
    frames = frames[np.mean(frames**2, 1) > np.mean(wav**2)] * np.hanning(1024)
    power = np.abs(np.fft.rfft(frames, 2048)) ** 2
    correlation = np.fft.irfft(power)[:, : 16000 // 60]
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(1024), 2048)) ** 2)[: 16000 // 60]
    correlation = correlation / correlation[:, :1] / (window / window[0])
    lags = np.arange(16000 // 350, 16000 // 60)
    return float(np.median(16000 / lags[correlation[:, lags].argmax(1)]))


def test_women_speak_higher_than_men():
    speakers = {}
    for utterance in corpus.toy_corpus():
        speakers.setdefault(utterance.speaker, []).append(utterance.wav)
    hertz = {name: pitch(np.concatenate(wavs)) for name, wavs in speakers.items()}
    assert min(f for name, f in hertz.items() if name[0] == "f") > 150
    assert max(f for name, f in hertz.items() if name[0] == "m") < 140
    assert len({round(f) for f in hertz.values()}) >= 12


def test_verify_finds_damage(tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(toy_corpus.SHIPPED / "f07", folder / "f07")
    rows = [row for row in manifest.read(toy_corpus.SHIPPED / "manifest.csv") if row["speaker"] == "f07"]
    manifest.write(folder / "manifest.csv", rows, toy_corpus.COLUMNS)
    assert toy_corpus.verify(folder) == []
    first, second = folder / rows[0]["clean"], folder / rows[1]["clean"]
    pcm, rate = sf.read(first, dtype="int16")
    pcm[1000] += 16
    sf.write(first, pcm, rate)
    second.rename(folder / "f07" / "extra.flac")
    problems = toy_corpus.verify(folder)
    assert any("f07_d01.flac: the samples differ" in problem for problem in problems)
    assert any("f07_d02.flac: listed in the manifest, but the file is missing" in problem for problem in problems)
    assert any("extra.flac: not in the manifest" in problem for problem in problems)
    assert toy_corpus.main(["--verify", str(folder)]) == 1


def test_regenerating_gives_the_same_corpus(tmp_path, rows, shipped_version):
    installed = toy_corpus.espeak_version()
    if installed is None:
        pytest.skip("espeak-ng is not installed")
    if installed != shipped_version:
        pytest.skip(f"espeak-ng {installed} is installed; the shipped corpus was made by {shipped_version}")
    speakers = [speaker for speaker in toy_corpus.SPEAKERS if speaker.name in ("f07", "m03")]
    made = toy_corpus.generate(tmp_path, speakers)
    shipped = [row for row in rows if row["speaker"] in ("f07", "m03")]
    for new, old in zip(sorted(made, key=lambda r: r["name"]), sorted(shipped, key=lambda r: r["name"])):
        assert {k: str(v) for k, v in new.items() if k != "sha256"} == {k: v for k, v in old.items() if k != "sha256"}
        if new["sha256"] != old["sha256"]:  # another processor may round a sample the other way, by one step
            a, b = (sf.read(folder / old["clean"], dtype="int16")[0] for folder in (tmp_path, toy_corpus.SHIPPED))
            assert np.abs(a.astype(int) - b).max() <= 2**toy_corpus.ZERO_BITS
    assert len(made) == len(shipped) == 44


def test_generating_without_espeak_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setattr(toy_corpus.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="apt-get install espeak-ng"):
        toy_corpus.generate(tmp_path)


def test_command_line_needs_a_task(capsys):
    with pytest.raises(SystemExit):
        toy_corpus.main([])
    assert "--out DIR" in capsys.readouterr().err


def test_verify_as_a_program():
    run = subprocess.run([sys.executable, "-m", "data_prep.toy_corpus", "--verify"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "every file agrees with the manifest" in run.stdout


def test_manifest_is_plain_csv():
    with open(toy_corpus.SHIPPED / "manifest.csv", newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    assert tuple(first) == toy_corpus.COLUMNS
    assert json.loads(first["words"])[0][0] == first["text"].split()[0]
