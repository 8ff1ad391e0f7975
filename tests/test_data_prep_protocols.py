"""The papers' recipes: counts, SNRs, noises and splits, on the real corpus and on the stand-in."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import stft, welch
from typer.testing import CliRunner

from data_prep import build, demand, librispeech, manifest, mix, noisex92, prepare, protocols, timit
from data_prep.__main__ import app
from data_prep.corpus import PrepError, Recording
from data_prep.download import BASE_URL
from ganse_tf import data, oversmooth
from tests import made_corpora as made
from tests.misbehaving_server import Server

PAPERS = ("segan", "cgan", "postfilter", "fsegan", "dnn_gan", "afm", "metricgan", "sforkgan", "cpgan", "mmsegan", "unetgan")
MIXED = ("cgan", "fsegan", "dnn_gan", "afm", "metricgan", "sforkgan", "unetgan")
HOURS = 3600 * 16000


def run(*arguments, ok=True):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code == 0) == ok, result.output
    return result.output


@functools.cache
def corpus(name):
    """As many recordings, speakers and parts as the real corpus has (names only, no audio)."""
    found = []

    def add(part, n_speakers, n_each, prefix, gender=None):
        for s in range(n_speakers):
            speaker = f"{gender or 'fm'[s % 2]}{prefix}{s:03d}"
            for i in range(n_each):
                found.append(Recording(f"{speaker}_{i:03d}", clean="x", speaker=speaker, gender=speaker[0], part=part))

    if name == "timit":
        add("train", 462, 10, "a")
        add("core", 24, 8, "b")
        add("test", 144, 10, "c")
    elif name == "librispeech":
        add("train-clean-100", 251, 113, "a")
        add("dev-clean", 40, 67, "b")
        add("test-clean", 40, 65, "c")
    elif name == "rsr2015":
        add("enhancer", 50, 87, "a", "m")
        for s in range(49):
            for i in range(9):
                part = "enrol" if i < 3 else "test"
                found.append(Recording(f"mb{s:03d}_{i}", clean="x", speaker=f"mb{s:03d}", gender="m", part=part))
    elif name == "wsj":
        add("si284", 284, 5, "a")
        add("dev93", 10, 50, "b")
        add("eval92", 8, 41, "c")
    return found


def fake_stretches(protocol):
    def stretches(split, noise):
        first, last = split.where
        return [mix.Stretch(noise, f"{noise}.wav", round(first * HOURS), round(last * HOURS))]

    return stretches


@functools.cache
def planned(name, source, seed=0):
    """(protocol, chosen, jobs) for a corpus of the real size."""
    protocol = protocols.choose(name, source)
    chosen = protocols.select(protocol, corpus(source), source, n_samples=lambda r: 50000, seed=seed)
    return protocol, chosen, protocols.plan(protocol, chosen, fake_stretches(protocol))


def count(jobs):
    counts = {}
    for job in jobs:
        counts[job.recording.split] = counts.get(job.recording.split, 0) + len(job.mixtures)
    return counts


def test_every_paper_has_a_recipe_and_a_corpus():
    assert tuple(sorted(protocols.PROTOCOLS)) == tuple(sorted(PAPERS))
    for protocol in protocols.PROTOCOLS.values():
        assert protocol.real in prepare.NAMES and set(protocol.stand_ins) <= set(prepare.NAMES)
        assert protocol.notes and protocol.paper


@pytest.mark.parametrize("source", ["timit", "librispeech"])
def test_unetgan_makes_9600_2250_4500(source):
    protocol, chosen, jobs = planned("unetgan", source)
    assert count(jobs) == {"train": 9600, "valid": 2250, "test": 4500} == protocol.counts()
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 600, "valid": 50, "test": 100}
    mixtures = {split: [m for j in jobs if j.recording.split == split for m in j.mixtures] for split in chosen}
    assert {m.snr_db for m in mixtures["train"]} == {0, -5, -10, -15}
    assert {m.snr_db for m in mixtures["test"]} == {0, -3, -5, -7, -10, -12, -15, -17, -20}
    assert {m.stretch.kind for m in mixtures["train"]} == {"babble", "factory1", "destroyerengine", "destroyerops"}
    assert "factory2" in {m.stretch.kind for m in mixtures["test"]}
    seconds = 235.2 * 16000 / HOURS
    assert max(m.stretch.last for m in mixtures["train"]) * seconds == pytest.approx(117 * 16000, rel=1e-3)


def test_counts_of_the_other_papers():
    assert protocols.DNN_GAN.counts() == {"train": 2000 * 5 * 2, "valid": 500, "test": 192 * 7 * 3}
    assert protocols.METRICGAN.counts() == {"train": 15000, "valid": 500, "test": 2000}
    assert protocols.CGAN.counts() == {"train": 4350 * 5 * 2, "enrol": 147, "test": 294 * 26}
    assert protocols.AFM.counts()["train"] == 8738
    for name, source in (("dnn_gan", "timit"), ("metricgan", "librispeech"), ("cgan", "rsr2015"), ("cgan", "librispeech")):
        protocol, _, jobs = planned(name, source)
        assert count(jobs) == protocol.counts()


@pytest.mark.parametrize("name, source", [
    (name, source) for name in MIXED for source in (protocols.PROTOCOLS[name].real, "librispeech") if source != "chime3"
])  # fmt: skip
def test_splits_are_disjoint_in_speakers_and_noise(name, source):
    _, chosen, jobs = planned(name, source)
    speakers = {split: {r.speaker for r in rows} for split, rows in chosen.items()}
    names = {split: {r.name for r in rows} for split, rows in chosen.items()}
    for a in chosen:
        for b in chosen:
            if a < b:
                same = {a, b} == {"enrol", "test"}
                assert (speakers[a] == speakers[b]) if same else not speakers[a] & speakers[b], (a, b)
                assert not names[a] & names[b]
    used = {}
    for job in jobs:
        for mixture in job.mixtures:
            if mixture.stretch is not None:
                used.setdefault(job.recording.split, set()).add(mixture.stretch)
    for a in used:
        for b in used:
            for x in used[a] if a < b else ():
                for y in used[b]:
                    assert x.path != y.path or x.last <= y.first or y.last <= x.first, (a, b, x, y)


def test_the_draw_depends_on_the_seed_and_nothing_else():
    first, again, other = (
        [r.name for r in planned("unetgan", "timit", seed=seed)[1]["train"]] for seed in (0, 0, 1)
    )
    assert first == again != other
    backwards = protocols.select(
        protocols.UNETGAN, corpus("timit")[::-1], "timit", n_samples=lambda r: 50000
    )
    assert [r.name for r in backwards["train"]] == first


def test_cgan_is_men_only_and_tests_the_enrolled():
    _, chosen, jobs = planned("cgan", "librispeech")
    assert all(r.gender == "m" for rows in chosen.values() for r in rows)
    for split, each, speakers in (("train", 87, 50), ("enrol", 3, 49), ("test", 6, 49)):
        counts = {}
        for r in chosen[split]:
            counts[r.speaker] = counts.get(r.speaker, 0) + 1
        assert set(counts.values()) == {each} and len(counts) == speakers
    snrs = {split: {m.snr_db for j in jobs if j.recording.split == split for m in j.mixtures} for split in chosen}
    assert snrs == {"train": {10, 20}, "enrol": {None}, "test": {None, 0, 5, 10, 15, 20}}


def test_fsegan_snrs():
    _, _, jobs = planned("fsegan", "wsj")
    train = [m.snr_db for j in jobs if j.recording.split == "train" for m in j.mixtures]
    test = [m.snr_db for j in jobs if j.recording.split == "test" for m in j.mixtures]
    assert len(train) == 284 * 5 and set(train) <= set(range(31)) and abs(np.mean(train) - 11) < 1
    assert all(round(v - 0.2, 6) in range(31) for v in test) and all(job.reverberant for job in jobs)
    weights = protocols.weights_with_mean(range(31), 11.0)
    assert sum(weights) == pytest.approx(1) and np.dot(weights, range(31)) == pytest.approx(11, abs=1e-6)


def test_short_utterances_and_sa_sentences_are_left_out():
    recordings = corpus("timit")
    short = {r.name for r in recordings[::3]}
    chosen = protocols.select(
        protocols.UNETGAN, recordings, "timit", n_samples=lambda r: 16383 if r.name in short else 16384
    )
    assert not short & {r.name for rows in chosen.values() for r in rows}
    sa = [Recording(f"{r.speaker}_sa1", clean="x", speaker=r.speaker, part=r.part) for r in recordings]
    with pytest.raises(PrepError, match="needs 300 utterances for train, timit has 0 in train"):
        protocols.select(protocols.METRICGAN, sa, "timit")


def test_too_small_a_corpus_is_refused_and_a_limit_helps():
    with pytest.raises(PrepError, match=r"needs 600 utterances for train, toy has 220 in train. Use --limit 220 or less"):
        protocols.select(protocols.UNETGAN, _toy(), "toy", n_samples=lambda r: 50000)
    chosen = protocols.select(protocols.UNETGAN, _toy(), "toy", limit=20, n_samples=lambda r: 50000)
    assert {split: len(rows) for split, rows in chosen.items()} == {"train": 20, "valid": 20, "test": 20}
    few = [r for r in corpus("rsr2015") if r.speaker != "ma000"]
    with pytest.raises(PrepError, match="needs 50 speakers with 87 utterances for train; rsr2015 has 49"):
        protocols.select(protocols.CGAN, few, "rsr2015")


def _toy():
    return prepare.corpus_module("toy").find()


def test_recipes_for_corpora_that_are_noisy_already():
    speakers = ((226, "valid"), (227, "train"), (232, "test"))
    rows = [Recording(f"p{s}_{i:03d}", speaker=f"p{s}", split=split) for s, split in speakers for i in range(700)]
    splits = {
        name: {s: sum(r.split == s for r in protocols.relabel(protocols.choose(name, "voicebank_demand"), rows, 0))
               for s in ("train", "valid", "test")}
        for name in ("segan", "cpgan", "mmsegan", "metricgan")
    }  # fmt: skip
    assert splits["segan"] == {"train": 1400, "valid": 0, "test": 700}
    assert splits["cpgan"] == splits["metricgan"] == {"train": 700, "valid": 700, "test": 700}
    assert splits["mmsegan"] == {"train": 828, "valid": 572, "test": 700}


def test_wrong_corpora_are_explained(tmp_path):
    said = run("librispeech", "--protocol", "segan", "--out", tmp_path, ok=False)
    assert "--protocol segan is made from voicebank_demand, which is free. librispeech cannot stand in" in said
    said = run("ljspeech", "--protocol", "unetgan", "--out", tmp_path, ok=False)
    assert "is made from timit; free stand-ins: librispeech, toy" in said


# ---- end to end ------------------------------------------------------------------------------------------------------


@pytest.fixture
def short_noises(monkeypatch):
    """Twelve seconds of every made noise instead of four minutes."""
    for name, protocol in protocols.PROTOCOLS.items():
        monkeypatch.setitem(protocols.PROTOCOLS, name, dataclasses.replace(protocol, seconds_of_made_noise=12))


@pytest.mark.parametrize("name", MIXED)
def test_every_recipe_offline(tmp_path, short_noises, name):
    said = run("toy", "--protocol", name, "--limit", 2, "--out", tmp_path / "out")
    protocol = protocols.PROTOCOLS[name]
    assert f"toy, a stand-in for {protocol.real}" in said and all(f"noise {n.name}:" in said for n in protocol.noises)
    rows = manifest.read(tmp_path / "out" / "manifest.csv")
    wanted = {s.name: s.mixtures_of(2) for s in protocol.splits}
    assert {s: sum(r["split"] == s for r in rows) for s in wanted} == wanted
    problems = manifest.validate(tmp_path / "out" / "manifest.csv", measure=not protocol.reverberant)
    problems = [p for p in problems if "is in enrol and in test" not in p and "is in test and in enrol" not in p]
    assert problems == [] and build.verify(tmp_path / "out") == []
    pair = next(p for p in data.pairs(tmp_path / "out" / "manifest.csv") if p.noise)
    noisy, clean, rate = pair.load()
    assert rate == 16000 and len(noisy) == len(clean) and pair.text and pair.split
    again = run("toy", "--protocol", name, "--limit", 2, "--out", tmp_path / "out")
    assert "nothing to do" in again


def test_postfilter_on_speech_alone(tmp_path):
    said = run("toy", "--protocol", "postfilter", "--limit", 1, "--out", tmp_path / "out")
    assert "toy, a stand-in for blizzard2011" in said
    rows = manifest.read(tmp_path / "out" / "manifest.csv")
    assert len(rows) == 3 and {r["noise"] for r in rows} == {"oversmoothed"}
    noisy, clean, _ = data.pairs(tmp_path / "out" / "manifest.csv")[0].load()
    assert noisy.std() == pytest.approx(clean.std(), rel=0.5) and not np.allclose(noisy, clean, atol=1e-3)


def test_oversmoothing_removes_texture_and_keeps_the_speech():
    wav = data.toy_corpus("test")[0].wav
    for n_samples in (8001, 16000, 16079, 16080, 16081):
        assert oversmooth.oversmooth(wav[:n_samples]).shape == (n_samples,)
    smooth = oversmooth.oversmooth(wav)
    assert smooth.dtype == np.float32 and smooth.std() == pytest.approx(wav.std(), rel=1e-3)
    assert np.corrcoef(smooth, wav)[0, 1] > 0.8

    def texture(x, axis):
        """Variance of the step of log amplitude to the next frame (1) or bin (0), where somebody speaks."""
        spec = np.abs(stft(x, 16000, nperseg=400, noverlap=320, nfft=512)[2])
        loud = np.abs(stft(wav, 16000, nperseg=400, noverlap=320, nfft=512)[2]).sum(0)
        return np.var(np.diff(np.log(spec[:, loud > 0.05 * loud.max()] + 1e-5), axis=axis))

    assert texture(smooth, 1) < 0.8 * texture(wav, 1) and texture(smooth, 0) < 0.8 * texture(wav, 0)


@pytest.fixture
def server(monkeypatch):
    """LibriSpeech and DEMAND, small, from 127.0.0.1."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        monkeypatch.setenv(BASE_URL, server.url)
        for part in ("dev-clean", "test-clean"):
            tar = made.tarred(made.librispeech(part, speakers=8, utterances=4))
            server.put(f"/resources/12/{part}.tar.gz", tar)
            monkeypatch.setitem(librispeech.FACTS, part, (len(tar), made.md5(tar)))
        for part in ("PRESTO", "DWASHING", "TMETRO", "OOFFICE", "STRAFFIC", "TBUS"):
            data_zip = made.demand(part, 10.0)
            server.put(f"/records/1227121/files/{part}_16k.zip", data_zip)
            monkeypatch.setitem(demand.FACTS, part, (len(data_zip), made.md5(data_zip)))
        yield server


def test_unetgan_on_the_stand_ins_downloads_them(server, tmp_path):
    command = ("librispeech", "--protocol", "unetgan", "--limit", 2, "--out", tmp_path / "u")
    said = run(*command, ok=False)
    assert "demand: CC BY-SA 3.0" in said and "--accept-license" in said and server.log == []
    said = run(*command, "--accept-license")
    assert "librispeech, a stand-in for timit" in said and "noise babble: demand PRESTO (stand-in)" in said
    rows = manifest.read(tmp_path / "u" / "manifest.csv")
    assert len(rows) == 2 * 16 + 2 * 45 + 2 * 45 and manifest.validate(tmp_path / "u" / "manifest.csv", measure=True) == []
    source = soundfile.read(tmp_path / "u" / "noises" / "babble--demand-PRESTO.wav")[0]
    cut = {"train": (0, 117), "valid": (117, 146), "test": (146, 235.2)}
    for row in rows:
        first = int(row["noise_offset"])
        low, high = (share / 235.2 * len(source) for share in cut[row["split"]])
        assert low - 1 <= first <= high, row
    assert not list((tmp_path / "u").rglob("unpacked"))


def test_unetgan_on_timit_and_noisex(tmp_path, monkeypatch):
    monkeypatch.setattr(noisex92, "SECONDS", 8.0)
    monkeypatch.setattr(timit, "FILES", {"train": 16, "test": 8})
    speakers = [("train", "dr1", f"mabc{i}") for i in range(8)] + [("test", "dr1", f"fxyz{i}") for i in range(4)]
    made.timit(tmp_path / "timit", speakers=speakers, sentences=("sa1", "sx11"))
    (tmp_path / "noisex").mkdir()
    for name in ("babble", "factory1", "factory2", "destroyerengine", "destroyerops"):
        (tmp_path / "noisex" / f"{name}.wav").write_bytes(made.coded(made.noise(name, 8.2, 19980), 19980))
    said = run(
        "timit", "--source", tmp_path / "timit", "--source", f"noisex92={tmp_path / 'noisex'}", "--protocol", "unetgan",
        "--limit", 2, "--out", tmp_path / "u",
    )  # fmt: skip
    assert "timit, the corpus of the paper" in said and "noise factory2: noisex92 factory2 (as in the paper)" in said
    rows = manifest.read(tmp_path / "u" / "manifest.csv")
    assert len(rows) == 2 * 16 + 2 * 45 + 2 * 45 and not any("sa1" in r["name"] for r in rows)
    assert manifest.validate(tmp_path / "u" / "manifest.csv", measure=True) == []


def test_dnn_gan_speech_shaped_noise_has_the_spectrum_of_the_training_speech(server, short_noises, tmp_path):
    said = run("librispeech", "--protocol", "dnn_gan", "--limit", 3, "--out", tmp_path / "d", "--accept-license")
    assert "noise ssn: speech ssn (as in the paper)" in said
    (path,) = (tmp_path / "d" / "noises").glob("ssn--*.wav")
    ssn, _ = soundfile.read(path)
    speech = np.concatenate([
        soundfile.read(tmp_path / "d" / row["clean"])[0] / float(row["gain"])
        for row in manifest.read(tmp_path / "d" / "manifest.csv") if row["split"] == "train"
    ])  # fmt: skip
    bands = np.geomspace(500, 7000, 6)
    levels = []
    for wav in (ssn, speech):
        f, p = welch(wav, 16000, nperseg=1024)
        levels.append([10 * np.log10(p[(f >= a) & (f < b)].mean()) for a, b in zip(bands, bands[1:])])
    difference = np.subtract(*levels)
    assert np.abs(difference - difference.mean()).max() < 1.5
    assert np.ptp(ssn.reshape(12, -1).std(axis=1)) < 0.25 * ssn.std()  # stationary; the speech has pauses


def test_cgan_babble_is_made_of_six_librispeech_voices(server, tmp_path):
    recordings = corpus("rsr2015")
    assert len({r.speaker for r in recordings}) == 99
    tar = made.librispeech("dev-clean", speakers=8, utterances=2, seconds=0.5)
    for path, blob in tar.items():
        (tmp_path / "ls" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ls" / path).write_bytes(blob)
    voices = librispeech.find(tmp_path / "ls", ["dev-clean"])
    wav = prepare.babble(voices, 32000, seed=0)
    assert wav.shape == (32000,) and wav.std() == pytest.approx(np.sqrt(6), rel=0.25)
    assert not np.allclose(wav, prepare.babble(voices, 32000, seed=1))
    with pytest.raises(PrepError, match="Babble needs 6 speakers; the corpus has 4"):
        prepare.babble([r for r in voices if r.speaker in {"100", "101", "102", "103"}], 32000, 0)
    origin = prepare.origins(protocols.CGAN, "rsr2015", {"rsr2015": tmp_path})
    assert origin["babble"] == ("speech", "babble6") and origin["cantine"] == ("demand", "PCAFETER")
    assert prepare._corpora("rsr2015", origin) == ["rsr2015", "librispeech", "demand"]


def test_your_own_noises_come_first(tmp_path, short_noises):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "Babble.wav").write_bytes(made.coded(made.noise("mine", 8.0)))
    command = ("toy", "--protocol", "unetgan", "--limit", 1, "--out", tmp_path / "u", "--source", f"noises={tmp_path / 'mine'}")
    assert "noise babble: noises Babble.wav" in run(*command) and "(your file)" in run(*command)
    recipe = json.loads((tmp_path / "u" / "prepared.json").read_text())["recipe"]
    assert recipe["noises"]["babble"].startswith("noises:Babble.wav ") and recipe["noises"]["factory1"] == "made:engine"
    (tmp_path / "mine" / "Babble.wav").write_bytes(made.coded(made.noise("other", 8.0)))
    assert "made with other settings (noises differ)" in run(*command, ok=False)


def test_a_pool_of_noise_files_is_shared_out():
    files = [Path(f"noise-{i}.wav") for i in range(40)]
    lengths = {path: 1000 for path in files}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_length", lambda path: lengths[path])
        shares = [{s.path for s in prepare.stretches(split, files, 0)} for split in protocols.FSEGAN.splits]
    assert [len(s) for s in shares] == [32, 4, 4] and not set.intersection(*shares) and len(set.union(*shares)) == 40
    with pytest.raises(PrepError, match="too few to share them out"):
        prepare.stretches(protocols.FSEGAN.splits[1], files[:2], 0)


# ---- documents -------------------------------------------------------------------------------------------------------

DOCUMENTS = Path(prepare.__file__).parent


def test_the_readme_prints_the_counts_of_the_recipes():
    text = (DOCUMENTS / "README.md").read_text(encoding="utf-8")
    for name in ("cgan", "dnn_gan", "afm", "metricgan", "sforkgan", "unetgan"):
        (line,) = [row for row in text.splitlines() if row.startswith(f"| `{name}`")]
        counts = protocols.PROTOCOLS[name].counts()
        printed = f"{counts['train']} / {counts.get('valid', 'none')} / {counts['test']}"
        assert printed in line, (printed, line)
    for name in prepare.NAMES:
        assert f"| `{name}` |" in text


def test_the_datasheet_has_all_headings_for_every_corpus():
    text = (DOCUMENTS / "DATASHEET.md").read_text(encoding="utf-8")
    titles = {
        "toy": "Toy", "voicebank_demand": "VoiceBank+DEMAND", "demand": "DEMAND", "musan": "MUSAN", "wsj": "WSJ",
        "librispeech": "LibriSpeech", "ljspeech": "LJSpeech", "timit": "TIMIT", "chime3": "CHiME-3", "rsr2015": "RSR2015",
        "blizzard2011": "Blizzard 2011", "noisex92": "NOISEX-92",
    }  # fmt: skip
    assert set(titles) == set(prepare.NAMES)
    sections = dict(part.split("\n", 1) for part in text.split("\n## ")[1:])
    headings = (
        "Motivation", "Composition", "Collection process", "Preprocessing, cleaning, labelling", "Uses", "Distribution",
        "Maintenance",
    )  # fmt: skip
    for title in (*titles.values(), "Mixtures made here"):
        assert [h for h in headings if f"**{h}.**" in sections[title]] == list(headings), title
