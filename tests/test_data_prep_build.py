"""The engine behind every corpus: same bytes for any number of processes, and nothing half-made taken for whole."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile
from scipy.signal import fftconvolve

from data_prep import build, manifest, mix, rooms, sound
from data_prep.corpus import SAMPLE_RATE, PrepError, Recording, limited
from tests.made_corpora import coded, noise, speech

RECIPE = {"corpus": "test", "seed": 0}


@dataclass(frozen=True)
class Job:
    name: str


def work(job, folder):
    """A row and a file that depend on the job alone."""
    wav = np.full(100, int(job.name) / 100)
    sha256, _ = build.write_wav(folder / "clean" / f"{job.name}.wav", wav, 16000, 16)
    return [{"name": job.name, "clean": f"clean/{job.name}.wav", "sample_rate": 16000, "sha256_clean": sha256}]


def jobs(n=6):
    return [Job(str(i)) for i in range(n)]


def tree(folder):
    """Every file of a finished folder but the lock; the marker too."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and p.name != ".lock"
    }


def test_files_manifest_marker(tmp_path):
    steps = []
    path = build.build(tmp_path, jobs(), work, RECIPE, progress=lambda *step: steps.append(step))
    assert path == tmp_path / "manifest.csv" and steps[-1] == ("audio", 6, 6)
    rows = manifest.read(path)
    assert [row["clean"] for row in rows] == [f"audio/clean/{i}.wav" for i in range(6)] and "noisy" not in rows[0]
    marker = build.prepared(tmp_path)
    assert marker["rows"] == 6 and marker["recipe"] == RECIPE
    assert not (tmp_path / ".building").exists() and build.verify(tmp_path) == []


def test_a_second_run_does_no_work(tmp_path):
    build.build(tmp_path, jobs(), work, RECIPE)
    before = tree(tmp_path)
    build.build(tmp_path, jobs(), None, RECIPE)  # None cannot be called
    assert tree(tmp_path) == before


def test_another_recipe_is_refused_and_the_difference_named(tmp_path):
    build.build(tmp_path, jobs(), work, RECIPE)
    with pytest.raises(PrepError, match=r"made with other settings \(seed differ\)"):
        build.build(tmp_path, jobs(), work, {**RECIPE, "seed": 1})


def test_interrupted_after_some_jobs(tmp_path):
    build.build(tmp_path / "whole", jobs(), work, RECIPE)

    def stops(job, folder):
        if job.name == "3":
            raise KeyboardInterrupt
        return work(job, folder)

    with pytest.raises(KeyboardInterrupt):
        build.build(tmp_path / "cut", jobs(), stops, RECIPE)
    assert build.prepared(tmp_path / "cut") is None and not (tmp_path / "cut" / "audio").exists()
    (tmp_path / "cut" / ".building" / "audio" / "clean" / ".9.wav.123").write_bytes(b"half a file")
    done = []
    build.build(tmp_path / "cut", jobs(), lambda job, folder: done.append(job.name) or work(job, folder), RECIPE)
    assert done == ["3", "4", "5"]
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_after_a_power_cut_empty_files_are_made_again(tmp_path):
    def stops(job, folder):
        if job.name == "4":
            raise KeyboardInterrupt
        return work(job, folder)

    with pytest.raises(KeyboardInterrupt):
        build.build(tmp_path / "cut", jobs(), stops, RECIPE)
    (tmp_path / "cut" / ".building" / "audio" / "clean" / "1.wav").write_bytes(b"")
    (tmp_path / "cut" / ".building" / "rows" / "2.json").write_bytes(b"")
    done = []
    build.build(tmp_path / "cut", jobs(), lambda job, folder: done.append(job.name) or work(job, folder), RECIPE)
    assert done == ["1", "2", "4", "5"]
    build.build(tmp_path / "whole", jobs(), work, RECIPE)
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["manifest", "marker"])
def test_interrupted_at_the_end(tmp_path, monkeypatch, moment):
    build.build(tmp_path / "whole", jobs(), work, RECIPE)
    with monkeypatch.context() as patch:
        if moment == "manifest":
            patch.setattr(build.manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        else:
            plain = build.write_text

            def stops_at_the_marker(path, text, **options):
                if path.name == build.MARKER:
                    raise KeyboardInterrupt
                plain(path, text, **options)

            patch.setattr(build, "write_text", stops_at_the_marker)
        with pytest.raises(KeyboardInterrupt):
            build.build(tmp_path / "cut", jobs(), work, RECIPE)
    assert (tmp_path / "cut" / "audio").is_dir() and build.prepared(tmp_path / "cut") is None
    build.build(tmp_path / "cut", jobs(), None, RECIPE)  # all jobs were done
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")


def test_work_for_another_recipe_is_thrown_away(tmp_path):
    def stops(job, folder):
        if job.name == "3":
            raise KeyboardInterrupt
        return work(job, folder)

    with pytest.raises(KeyboardInterrupt):
        build.build(tmp_path, jobs(), stops, {**RECIPE, "seed": 1})
    done = []
    build.build(tmp_path, jobs(), lambda job, folder: done.append(job.name) or work(job, folder), RECIPE)
    assert len(done) == 6


def test_a_foreign_audio_folder_is_left_alone(tmp_path):
    (tmp_path / "audio").mkdir()
    with pytest.raises(PrepError, match="was not finished by this program"):
        build.build(tmp_path, jobs(), work, RECIPE)


def test_changes_afterwards_are_noticed(tmp_path):
    build.build(tmp_path, jobs(), work, RECIPE)
    (tmp_path / "audio" / "clean" / "2.wav").write_bytes(b"changed")
    (tmp_path / "audio" / "clean" / "3.wav").unlink()
    (tmp_path / "audio" / "clean" / "new.wav").write_bytes(b"")
    problems = "\n".join(build.verify(tmp_path))
    assert "clean/2.wav: the file differs" in problems
    assert "clean/3.wav: listed in the manifest, but the file is missing" in problems
    assert "clean/new.wav: not in the manifest" in problems
    with open(tmp_path / "manifest.csv", "a") as file:
        file.write("6,x\n")
    with pytest.raises(PrepError, match="manifest.csv was changed after it was made. Delete"):
        build.prepared(tmp_path)
    (tmp_path / "manifest.csv").unlink()
    with pytest.raises(PrepError, match="manifest.csv or audio/ is missing"):
        build.prepared(tmp_path)
    assert "never finished" in build.verify(tmp_path / "audio")[0]


def test_names_and_empty_lists(tmp_path):
    with pytest.raises(PrepError, match="the names 1 occur more than once"):
        build.build(tmp_path, [Job("1"), Job("1")], work, RECIPE)
    with pytest.raises(PrepError, match="there is nothing to make"):
        build.build(tmp_path, [], work, RECIPE)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failing_job_is_named(tmp_path, workers):
    job = mix.Convert(Recording("u1", clean=str(tmp_path / "no.wav")))
    with pytest.raises(PrepError, match="u1: .*no.wav"):
        build.build(tmp_path, [job], mix.convert, RECIPE, workers=workers)
    assert build.prepared(tmp_path) is None


def test_one_process_per_folder(tmp_path):
    with build.locked(tmp_path):
        code = f"import sys; from data_prep import build\nwith build.locked({str(tmp_path)!r}): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode and "Another data_prep is working in" in other.stderr
    with build.locked(tmp_path):
        pass


def test_wav_bytes_depend_on_the_samples_alone(tmp_path):
    wav = np.random.default_rng(0).uniform(-0.9, 0.9, 1000)
    for bits in (16, 24):
        first = build.write_wav(tmp_path / "a.wav", wav, 16000, bits)
        assert build.write_wav(tmp_path / "sub" / "b.wav", wav, 16000, bits) == first
        back, rate = soundfile.read(tmp_path / "a.wav")
        assert rate == 16000 and np.abs(back - wav).max() <= 0.51 / 2 ** (bits - 1)
        assert soundfile.info(tmp_path / "a.wav").subtype == f"PCM_{bits}"
    assert build.write_wav(tmp_path / "c.wav", [1.5, -1.5, 0.0], 16000, 16)[1] == 2
    assert np.allclose(soundfile.read(tmp_path / "c.wav")[0], [32767 / 32768, -1, 0])


# ---- mixing ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Three utterances and two noises on disk."""
    folder = tmp_path_factory.mktemp("sounds")
    for i in range(3):
        (folder / f"u{i}.wav").write_bytes(coded(speech(i)))
    for i in range(2):
        (folder / f"n{i}.wav").write_bytes(coded(noise(i)))
    return folder


def mixing_jobs(folder, seed=0, reverberant=False, snrs=(-20.0, -5.0, 0.0, 17.5)):
    found = []
    for i in range(3):
        recording = Recording(f"u{i}", clean=str(folder / f"u{i}.wav"), speaker=f"s{i}", split="train", text="a, b")
        mixtures = [mix.Mixture(f"u{i}_clean")] + [
            mix.Mixture(f"u{i}_n{n}_{snr:g}", mix.Stretch(f"n{n}", str(folder / f"n{n}.wav"), 16000, 64000), snr)
            for n in range(2) for snr in snrs
        ]  # fmt: skip
        found.append(mix.Mix(recording, tuple(mixtures), seed, reverberant))
    return found


def test_one_and_four_workers_write_the_same_bytes(tmp_path, sounds):
    for workers in (1, 4):
        build.build(tmp_path / str(workers), mixing_jobs(sounds), mix.mix, RECIPE, workers=workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "4")
    build.build(tmp_path / "backwards", mixing_jobs(sounds)[::-1], mix.mix, RECIPE)
    files = {path: data for path, data in tree(tmp_path / "backwards").items() if path.startswith("audio")}
    assert files == {path: data for path, data in tree(tmp_path / "1").items() if path.startswith("audio")}
    build.build(tmp_path / "other", mixing_jobs(sounds, seed=1), mix.mix, {**RECIPE, "seed": 1})
    assert files != {path: data for path, data in tree(tmp_path / "other").items() if path.startswith("audio")}


def test_snr_scaling_and_stretches(tmp_path, sounds):
    path = build.build(tmp_path, mixing_jobs(sounds), mix.mix, RECIPE)
    assert manifest.validate(path, measure=True) == []
    rows, scaled = manifest.read(path), 0
    assert len(rows) == 3 * 9
    for row in rows:
        noisy, clean = (soundfile.read(tmp_path / row[side])[0] for side in ("noisy", "clean"))
        original = soundfile.read(sounds / f"{row['name'].split('_')[0]}.wav")[0]
        if row["name"].endswith("_clean"):
            assert row["noisy"] == row["clean"] and np.allclose(clean, original, atol=1e-6) and row["snr_db"] == ""
            continue
        snr_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert abs(snr_db - float(row["snr_db"])) < 0.01
        assert np.abs(noisy).max() <= 0.991
        assert np.allclose(clean, float(row["gain"]) * original, atol=1e-6)
        scaled += row["gain"] != "1"
        first = int(row["noise_offset"])
        assert 16000 <= first and first + len(clean) <= 64000
        source = soundfile.read(sounds / f"{row['noise']}.wav")[0][first : first + len(clean)]
        added = noisy - clean
        assert np.dot(added, source) / np.linalg.norm(added) / np.linalg.norm(source) > 0.999
        assert row["text"] == "a, b" and row["speaker"] and row["seed"] == "0" and row["version"]
    assert 0 < scaled < 24  # both kinds of clean file were checked


def test_a_silent_stretch_is_drawn_again_and_silence_alone_refused(tmp_path):
    pcm = noise("half", 6.0)
    pcm[: len(pcm) * 2 // 3] = 0
    (tmp_path / "u.wav").write_bytes(coded(speech("u", 0.2)))
    (tmp_path / "n.wav").write_bytes(coded(pcm))
    recording = Recording("u", clean=str(tmp_path / "u.wav"), speaker="s", split="train")
    mixtures = tuple(mix.Mixture(f"u{i}", mix.Stretch("n", str(tmp_path / "n.wav"), 0, len(pcm)), 0.0) for i in range(8))
    rows = mix.mix(mix.Mix(recording, mixtures), tmp_path / "out")
    assert all(int(row["noise_offset"]) + row["n_samples"] > len(pcm) * 2 // 3 for row in rows)
    silent = mix.Mixture("u", mix.Stretch("n", str(tmp_path / "n.wav"), 0, 1000), 0.0)
    with pytest.raises(PrepError, match="is silent in 20 places drawn from samples 0 to 1000"):
        mix.mix(mix.Mix(recording, (silent,)), tmp_path / "out")
    (tmp_path / "zero.wav").write_bytes(coded(np.zeros(8000, np.int16)))
    with pytest.raises(PrepError, match="no SNR can be set"):
        mix.mix(mix.Mix(Recording("z", clean=str(tmp_path / "zero.wav")), mixtures), tmp_path / "out")


def test_speech_too_quiet_for_its_file_is_refused(tmp_path, sounds):
    (tmp_path / "u.wav").write_bytes(coded(np.resize([1, -1], 16000).astype(np.int16)))
    job = mix.Mix(
        Recording("u", clean=str(tmp_path / "u.wav")),
        (mix.Mixture("u", mix.Stretch("n", str(sounds / "n0.wav"), 0, 64000), 90.0),),
    )
    with pytest.raises(PrepError, match="too quiet for 24-bit files"):
        mix.mix(job, tmp_path / "out")


def test_reverberant_speech_keeps_its_dry_target(tmp_path, sounds):
    for i in range(3):  # noise for speech: its autocorrelation has one peak
        (tmp_path / f"u{i}.wav").write_bytes(coded(noise(("speech", i), 1.0)))
    recordings = mixing_jobs(tmp_path, reverberant=True, snrs=(30.0,))
    for i in range(2):
        (tmp_path / f"n{i}.wav").write_bytes((sounds / f"n{i}.wav").read_bytes())
    path = build.build(tmp_path / "out", recordings, mix.mix, RECIPE)
    t60s = set()
    for row in manifest.read(path):
        if not row["noise"]:
            continue
        noisy, clean = (soundfile.read(tmp_path / "out" / row[side])[0] for side in ("noisy", "clean"))
        lag = np.argmax(fftconvolve(noisy, clean[::-1])) - (len(clean) - 1)
        residual_db = 10 * np.log10(np.sum(clean**2) / np.sum((noisy - clean) ** 2))
        assert lag == 0 and residual_db < 25  # aligned, but far from 30 dB: the room is in it
        assert rooms.T60_S[0] <= float(row["room_t60"]) <= rooms.T60_S[1]
        t60s.add(row["room_t60"])
    assert len(t60s) > 3  # a room of its own for every mixture


def test_room_response_against_geometry_and_sabine():
    size, source, microphone = (6.0, 5.0, 3.0), (2.0, 2.0, 1.5), (4.0, 3.0, 1.2)
    response = rooms.impulse_response(size, source, microphone, 0.4)
    direct = np.linalg.norm(np.subtract(source, microphone))
    assert response[0] == pytest.approx(1.0) and len(response) == 6400
    floor = np.linalg.norm(np.subtract((2.0, 2.0, -1.5), microphone))  # the image below the floor
    delay = round((floor - direct) * 16000 / rooms.SPEED_OF_SOUND)
    reflection = np.exp(-0.5 * rooms.EYRING * 90 / (126 * 0.4))
    assert response[delay] == pytest.approx(reflection * direct / floor, rel=0.05)  # the first reflection, high-passed
    decay_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])  # Schroeder
    decay_db -= decay_db[0]
    first, last = (np.argmax(decay_db < level) for level in (-5, -25))
    t60 = 3 * (last - first) / 16000
    assert 0.28 < t60 < 0.52  # Eyring's formula is an approximation for a diffuse field


def test_resampled_lengths_and_names_of_sides(tmp_path):
    (tmp_path / "c.wav").write_bytes(coded(speech("a", 1.0, 48000), 48000))
    (tmp_path / "n.wav").write_bytes(coded(speech("a", 1.0, 48000)[:-2], 48000))
    (tmp_path / "short.wav").write_bytes(coded(speech("a", 0.9, 48000), 48000))
    recording = Recording("x", clean=str(tmp_path / "c.wav"), noisy=str(tmp_path / "n.wav"))
    (row,) = mix.convert(mix.Convert(recording), tmp_path / "out")
    assert row["n_samples"] in (15999, 16000) and row["seconds"] == f"{row['n_samples'] / SAMPLE_RATE:.4f}"
    for side in ("noisy", "clean"):
        assert soundfile.info(tmp_path / "out" / row[side]).frames == row["n_samples"]
    with pytest.raises(PrepError, match="do not belong together"):
        mix.convert(mix.Convert(Recording("y", clean=str(tmp_path / "c.wav"), noisy=str(tmp_path / "short.wav"))), tmp_path)


def test_stereo_is_not_averaged_silently(tmp_path):
    soundfile.write(tmp_path / "s.wav", np.zeros((100, 2)), 16000)
    with pytest.raises(PrepError, match="has 2 channels, expected mono"):
        sound.read(tmp_path / "s.wav")


def test_limit_deals_speaker_by_speaker():
    recordings = [Recording(f"{s}{i}", speaker=s, split=split) for split, s in (("train", "a"), ("train", "b"), ("test", "c"))
                  for i in range(5)]  # fmt: skip
    assert [r.name for r in limited(recordings, 3)] == ["a0", "a1", "b0", "c0", "c1", "c2"]
    assert limited(recordings, None) == recordings
    with pytest.raises(PrepError, match="--limit is 0"):
        limited(recordings, 0)


def test_marker_is_readable(tmp_path):
    build.build(tmp_path, jobs(1), work, RECIPE)
    assert json.loads((tmp_path / "prepared.json").read_text())["recipe"]["corpus"] == "test"
    assert os.listdir(tmp_path / "audio") == ["clean"]


def test_a_noise_that_is_too_short_is_repeated(tmp_path, sounds):
    stretch = mix.Stretch("n", str(sounds / "n0.wav"), 100, 5100)
    job = mix.Mix(Recording("u", clean=str(sounds / "u0.wav")), (mix.Mixture("u", stretch, 0.0),))
    (row,) = mix.mix(job, tmp_path)
    noisy, clean = (soundfile.read(tmp_path / row[side])[0] for side in ("noisy", "clean"))
    added, source = noisy - clean, np.roll(soundfile.read(sounds / "n0.wav")[0][100:5100], 100 - row["noise_offset"])
    assert np.corrcoef(added[:5000], source)[0, 1] > 0.999 and np.allclose(added[5000:10000], added[:5000], atol=1e-5)
    assert 100 <= row["noise_offset"] < 5100
