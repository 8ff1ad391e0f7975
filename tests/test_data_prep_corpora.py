"""Every corpus in its real layout, small and made up, through the command line; downloads from a local server."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import soundfile
from typer.testing import CliRunner

from data_prep import (
    blizzard2011,
    chime3,
    demand,
    librispeech,
    ljspeech,
    manifest,
    musan,
    noisex92,
    prepare,
    sound,
    timit,
    toy_corpus,
    voicebank_demand,
    wsj,
)
from data_prep.__main__ import app
from data_prep.corpus import Archive, LayoutError, PrepError, wavs
from data_prep.download import BASE_URL
from ganse_tf import data
from tests import made_corpora as made
from tests.misbehaving_server import Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        monkeypatch.setenv(BASE_URL, server.url)
        yield server


def run(*arguments, ok=True):
    """The command line in this process; returns what it printed."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert (result.exit_code == 0) == ok, result.output
    return result.output


def rows_of(out):
    rows = manifest.read(out / "manifest.csv")
    for row in rows:
        for side in ("noisy", "clean"):
            if row.get(side):
                facts = soundfile.info(out / row[side])
                assert (facts.samplerate, facts.channels, facts.frames) == (16000, 1, int(row["n_samples"]))
    return rows


# ---- downloaded corpora ----------------------------------------------------------------------------------------------

NAMES = {"train": ("p226_001", "p227_001", "p228_004", "p287_010"), "test": ("p232_001", "p257_002")}


@pytest.fixture
def voicebank(server, monkeypatch):
    archives = {}
    for part, names in NAMES.items():
        archives[part] = []
        for folder, noisy in zip(voicebank_demand.FOLDERS[part], (False, True)):
            zip_bytes = made.voicebank(names, folder, noisy, nested=noisy)
            server.put(f"/bitstreams/{folder}/download", zip_bytes)
            urls = (f"https://datashare.ed.ac.uk/bitstreams/{folder}/download",)
            archives[part].append(Archive(f"{folder}.zip", urls, len(zip_bytes), made.md5(zip_bytes)))
    monkeypatch.setattr(voicebank_demand, "ARCHIVES", archives)
    monkeypatch.setattr(voicebank_demand, "PAIRS", {part: len(names) for part, names in NAMES.items()})
    return server


def test_voicebank_demand(voicebank, tmp_path):
    out = tmp_path / "vb"
    voicebank.fail("/bitstreams/clean_testset_wav/download", "drop", "503")
    said = run("voicebank_demand", "--out", out, "--accept-license")
    assert "CC BY 4.0" in said and "Valentini-Botinhao" in said and "calibrate" in said and "of disk" in said
    rows = rows_of(out)
    assert [(row["name"], row["split"]) for row in rows] == [
        ("p226_001", "valid"), ("p227_001", "train"), ("p228_004", "train"), ("p287_010", "valid"),
        ("p232_001", "test"), ("p257_002", "test"),
    ]  # fmt: skip
    pairs = data.pairs(out / "manifest.csv")
    for pair in pairs:
        noisy, clean, rate = pair.load()
        assert rate == 16000 and len(clean) == 12800
        original = made.speech(pair.name, 0.8, 48000) / 32768
        assert np.abs(clean - data.audio.resample(original, 48000, 16000)).max() < 2 / 32768
        assert np.corrcoef(noisy, clean)[0, 1] > 0.9
    assert not (out / "unpacked").exists() and len(list((out / "archives").glob("*.zip"))) == 4
    before = len(voicebank.log)
    again = run("voicebank_demand", "--out", out, "--accept-license", "--verify")
    assert "nothing to do" in again and "every archive and every file agrees" in again and len(voicebank.log) == before
    (out / rows[0]["noisy"]).write_bytes(b"spoilt")
    said = run("voicebank_demand", "--out", out, "--accept-license", "--verify", ok=False)
    assert "the file differs from the SHA-256" in said


def test_voicebank_noise_and_snr_from_the_log_files(voicebank, tmp_path):
    logs = made.zipped({"logfiles/log_testset.txt": b"p232_001 bus 17.5\np257_002 cafe 2.5\n",
                        "logfiles/log_readme.txt": b"p999_001 is described elsewhere\n"})  # fmt: skip
    (tmp_path / "vb" / "archives").mkdir(parents=True)
    (tmp_path / "vb" / "archives" / "logfiles.zip").write_bytes(logs)
    said = run("voicebank_demand", "--out", tmp_path / "vb", "--accept-license", "--parts", "test")
    assert "logfiles.zip: no published checksum is known" in said
    assert [(r["noise"], r["snr_db"]) for r in rows_of(tmp_path / "vb")] == [("bus", "17.5"), ("cafe", "2.5")]
    assert not any("trainset" in where for where, _ in voicebank.log)


def test_voicebank_wants_its_licence_accepted(voicebank, tmp_path):
    said = run("voicebank_demand", "--out", tmp_path / "vb", ok=False)
    assert "--accept-license" in said and "CC BY 4.0" in said and voicebank.log == []


def test_voicebank_copies_that_are_not_whole(voicebank, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    for name in voicebank_demand.FOLDERS["test"]:
        (folder / name).mkdir(parents=True)
        for speaker in NAMES["test"]:
            (folder / name / f"{speaker}.wav").write_bytes(made.coded(made.speech(speaker, 0.5)))
    assert len(voicebank_demand.find(folder, ["test"])) == 2
    monkeypatch.setattr(voicebank_demand, "PAIRS", {"train": 11572, "test": 824})
    with pytest.raises(LayoutError, match="has 2 test pairs, the published set has 824"):
        voicebank_demand.find(folder, ["test"])
    (folder / "noisy_testset_wav" / "p257_002.wav").unlink()
    with pytest.raises(LayoutError, match=r"1 test files have no partner \(p257_002\)"):
        voicebank_demand.find(folder, ["test"])
    with pytest.raises(LayoutError, match="has no clean_trainset_28spk_wav/p"):
        voicebank_demand.find(folder, ["train"])
    monkeypatch.setattr(voicebank_demand, "PAIRS", {"train": 1, "test": 1})
    for name in voicebank_demand.FOLDERS["train"]:
        (folder / name).mkdir()
        (folder / name / "p232_001.wav").write_bytes(made.coded(made.speech(1, 0.5)))
    with pytest.raises(LayoutError, match="speaker p232, who is not one of the train speakers"):
        voicebank_demand.find(folder, ["train"])


def test_facts_of_voicebank_demand():
    assert len(voicebank_demand.TRAIN_SPEAKERS) == 28
    assert set(voicebank_demand.VALID_SPEAKERS) < set(voicebank_demand.TRAIN_SPEAKERS)
    assert voicebank_demand.PAIRS == {"train": 11572, "test": 824}
    for archive in voicebank_demand.archives(("train", "test")):
        assert len(archive.md5) == 32 and archive.urls[0].startswith("https://datashare.ed.ac.uk/bitstreams/")
        assert "handle/10283/2791" in archive.urls[1] and archive.estimate > 10**8


def test_demand(server, monkeypatch, tmp_path):
    for part in ("DKITCHEN", "SCAFE"):
        zip_bytes = made.demand(part)
        server.put(f"/records/1227121/files/{part}_{'48k' if part == 'SCAFE' else '16k'}.zip", zip_bytes)
        if part in demand.FACTS:
            monkeypatch.setitem(demand.FACTS, part, (len(zip_bytes), made.md5(zip_bytes)))
    said = run("demand", "--out", tmp_path / "d", "--accept-license", "--parts", "DKITCHEN,SCAFE")
    assert "CC BY-SA 3.0" in said and "SCAFE_48k.zip: no published checksum is known" in said
    rows = rows_of(tmp_path / "d")
    assert [(r["name"], r["noise"], r["noisy"]) for r in rows] == [
        ("DKITCHEN", "DKITCHEN", "audio/noise/DKITCHEN.wav"), ("SCAFE", "SCAFE", "audio/noise/SCAFE.wav"),
    ]  # fmt: skip
    assert "clean" not in rows[0]
    heard, _ = soundfile.read(tmp_path / "d" / rows[0]["noisy"], dtype="int16")
    assert np.array_equal(heard, made.noise(("DKITCHEN", 1)))  # microphone 1
    mixer = data.Mixer([made.speech(0) / 32768], tmp_path / "d" / "audio" / "noise")
    assert len(mixer[0].load()[0]) == len(made.speech(0))
    assert "has no part NOWHERE" in run("demand", "--out", tmp_path / "e", "--parts", "NOWHERE", ok=False)


def test_musan(server, monkeypatch, tmp_path):
    tar = made.tarred({
        "musan/noise/free-sound/noise-free-sound-0000.wav": made.coded(made.noise(0)),
        "musan/music/fma/music-fma-0000.wav": made.coded(made.speech(1)),
        "musan/speech/librivox/speech-librivox-0000.wav": made.coded(made.speech(2)),
        "musan/noise/free-sound/LICENSE": b"free",
    })  # fmt: skip
    server.put("/resources/17/musan.tar.gz", tar)
    monkeypatch.setattr(musan, "SIZE", len(tar))
    monkeypatch.setattr(musan, "MD5", made.md5(tar))
    run("musan", "--out", tmp_path / "m")
    assert [(r["name"], r["noise"], bool(r["noisy"]), bool(r["clean"])) for r in rows_of(tmp_path / "m")] == [
        ("noise-free-sound-0000", "noise", True, False), ("music-fma-0000", "music", True, False),
        ("speech-librivox-0000", "", False, True),
    ]  # fmt: skip
    run("musan", "--out", tmp_path / "n", "--parts", "noise")
    assert len(rows_of(tmp_path / "n")) == 1


def test_librispeech(server, monkeypatch, tmp_path):
    for part in ("dev-clean", "test-clean"):
        tar = made.tarred(made.librispeech(part, speakers=3, utterances=3, seconds=0.5))
        server.put(f"/resources/12/{part}.tar.gz", tar)
        monkeypatch.setitem(librispeech.FACTS, part, (len(tar), made.md5(tar)))
    run("librispeech", "--out", tmp_path / "ls", "--limit", 4)
    rows = rows_of(tmp_path / "ls")
    assert [r["split"] for r in rows] == 4 * ["valid"] + 4 * ["test"]
    assert [r["name"] for r in rows[:4]] == ["100-7-0000", "100-7-0001", "101-7-0000", "102-7-0000"]
    assert rows[0]["text"] == "WORDS OF NUMBER 0" and rows[0]["gender"] == "f" and rows[2]["gender"] == "m"
    assert "noisy" not in rows[0] and manifest.validate(tmp_path / "ls" / "manifest.csv") == []
    heard, _ = soundfile.read(tmp_path / "ls" / rows[0]["clean"], dtype="int16")
    assert np.array_equal(heard, made.speech("100-7-0000", 0.5))
    assert "with other settings (limit differ)" in run("librispeech", "--out", tmp_path / "ls", ok=False)


def test_a_dangerous_archive_stops_the_command(server, monkeypatch, tmp_path):
    tar = made.tarred({**made.librispeech("dev-clean", 1, 1), "../../evil.flac": b"evil"})
    server.put("/resources/12/dev-clean.tar.gz", tar)
    monkeypatch.setitem(librispeech.FACTS, "dev-clean", (len(tar), made.md5(tar)))
    said = run("librispeech", "--out", tmp_path / "ls", "--parts", "dev-clean", ok=False)
    assert "'../../evil.flac'" in said and not list(tmp_path.rglob("evil*")) and not (tmp_path / "ls" / "manifest.csv").exists()


def test_ljspeech(server, monkeypatch, tmp_path):
    names = ("LJ001-0001", "LJ002-0001", "LJ003-0001")
    files = {f"LJSpeech-1.1/wavs/{n}.wav": made.coded(made.speech(n, 0.5, 22050), 22050) for n in names}
    files["LJSpeech-1.1/metadata.csv"] = "".join(f'{n}|In "1900"|In "nineteen hundred"\n' for n in names).encode()
    tar = made.tarred(files, "w:bz2")
    server.put("/data/speech/LJSpeech-1.1.tar.bz2", tar)
    published = ljspeech.ARCHIVES[0]
    assert len(published.sha256) == 64
    monkeypatch.setattr(ljspeech, "ARCHIVES", (Archive(published.name, published.urls, len(tar), made.md5(tar)),))
    run("ljspeech", "--out", tmp_path / "lj")
    rows = rows_of(tmp_path / "lj")
    assert [r["split"] for r in rows] == ["test", "valid", "train"] and rows[0]["text"] == 'In "nineteen hundred"'
    assert int(rows[0]["n_samples"]) == 8000


def test_toy(tmp_path):
    run("toy", "--out", tmp_path / "toy", "--limit", 6)
    rows = rows_of(tmp_path / "toy")
    assert len(rows) == 18 and len({r["speaker"] for r in rows}) >= 12
    utterance = next(u for u in data.toy_corpus() if u.name == rows[0]["name"])
    heard, _ = soundfile.read(tmp_path / "toy" / rows[0]["clean"], dtype="float32")
    assert np.array_equal(heard, utterance.wav) and json.loads(rows[0]["words"]) == [list(w) for w in utterance.words]
    assert toy_corpus.SHIPPED.is_dir()


# ---- the Hugging Face copy -------------------------------------------------------------------------------------------


def test_the_hugging_face_mirror(server, tmp_path):
    """The real client against the local server: pinned revision, parquet, the same manifest as from the zips."""
    pytest.importorskip("huggingface_hub")
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    repo, revision = voicebank_demand.MIRROR_REPO, voicebank_demand.MIRROR_REVISION
    listing = []
    for part, names in NAMES.items():
        table = {"id": list(names)}
        for side in ("clean", "noisy"):
            table[side] = [{"bytes": made.coded(made.speech(n, 0.5)), "path": f"{n}.wav"} for n in names]
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(table), sink)
        blob = sink.getvalue().to_pybytes()
        path = f"data/{part}-00000-of-00001.parquet"
        where = f"/datasets/{repo}/resolve/{revision}/{path}"
        server.put(where, blob)
        server.headers[where] = {"X-Repo-Commit": revision, "ETag": f'"{made.md5(blob)}"'}
        listing.append({"type": "file", "path": path, "size": len(blob), "oid": "0" * 40})
    server.json[f"/api/datasets/{repo}/tree/{revision}"] = json.dumps(listing).encode()
    siblings = [{"rfilename": f["path"]} for f in listing]
    server.json[f"/api/datasets/{repo}/revision/{revision}"] = json.dumps(
        {"id": repo, "sha": revision, "siblings": siblings, "private": False, "tags": [], "downloads": 0, "likes": 0}
    ).encode()
    code = (
        "from data_prep import voicebank_demand as v\n"
        f"v.PAIRS = {dict((p, len(n)) for p, n in NAMES.items())}\n"
        "from data_prep.__main__ import app\napp()"
    )
    environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    command = ["voicebank_demand", "--out", tmp_path / "vb", "--mirror", "huggingface", "--accept-license"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the resampler that made it is not documented" in done.stdout
    rows = rows_of(tmp_path / "vb")
    assert [(r["name"], r["split"]) for r in rows][0] == ("p226_001", "valid") and len(rows) == 6
    heard, _ = soundfile.read(tmp_path / "vb" / rows[0]["clean"], dtype="int16")
    assert np.array_equal(heard, made.speech("p226_001", 0.5))


def test_mirrors_exist_for_one_corpus_only(tmp_path):
    said = run("librispeech", "--out", tmp_path, "--mirror", "huggingface", ok=False)
    assert "librispeech has no mirror 'huggingface'" in said
    with pytest.raises(LayoutError, match="a row called '../evil'"):
        voicebank_demand._plain_name("../evil")


# ---- corpora the user brings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["timit", "wsj", "chime3", "rsr2015", "blizzard2011", "noisex92"])
def test_licensed_corpora_are_never_downloaded(server, tmp_path, name):
    said = run(name, "--out", tmp_path / name, ok=False)
    assert "is never downloaded here" in said and "Free stand-in:" in said and "--source DIR" in said
    card = prepare.corpus_module(name).CARD
    assert card.licence in said and card.citation in said and card.stand_in in said and server.log == []
    (tmp_path / "empty").mkdir()
    said = run(name, "--out", tmp_path / name, "--source", tmp_path / "empty", ok=False)
    assert "xpected" in said and not (tmp_path / name / "manifest.csv").exists()
    assert prepare.corpus_module(name).archives(()) == []


@pytest.mark.parametrize("upper", [True, False])
def test_timit(tmp_path, monkeypatch, upper):
    monkeypatch.setattr(timit, "FILES", {"train": 6, "test": 6})
    made.timit(tmp_path / "copy", upper)
    duplicate = next(p for p in wavs(tmp_path / "copy", (".wav",)))
    duplicate.with_name(duplicate.name + ".wav").write_bytes(b"RIFF copy that must not be read")
    run("timit", "--source", tmp_path / "copy", "--out", tmp_path / "out")
    rows = {row["name"]: row for row in rows_of(tmp_path / "out")}
    assert len(rows) == 12
    row = rows["mdab0_sx11"]
    assert (row["part"], row["split"], row["gender"], row["speaker"]) == ("core", "test", "m", "mdab0")
    assert row["text"] == "She had sx11." and json.loads(row["words"]) == [["she", 0.1, 0.3], ["had", 0.3, 0.5]]
    assert rows["fxyz0_sa1"]["part"] == "test" and rows["fcjf0_sa1"]["split"] == "train"
    heard, _ = soundfile.read(tmp_path / "out" / row["clean"], dtype="int16")
    assert np.array_equal(heard, made.speech(("mdab0", "sx11")))
    assert len(timit.find(tmp_path / "copy", sa=False)) == 8
    monkeypatch.setattr(timit, "FILES", {"train": 4620, "test": 1680})
    with pytest.raises(LayoutError, match="has 6 sentences in TRAIN, TIMIT has 4620"):
        timit.find(tmp_path / "copy")
    assert len(timit.CORE_SPEAKERS) == 24 and sum(s[0] == "m" for s in timit.CORE_SPEAKERS) == 16


def test_nist_sphere(tmp_path):
    pcm = made.speech(0)
    (tmp_path / "a.WAV").write_bytes(made.coded(pcm, kind="NIST"))
    header = sound.sphere_header(tmp_path / "a.WAV")
    assert header["sample_rate"] == 16000 and header["channel_count"] == 1
    wav, rate = sound.read(tmp_path / "a.WAV")
    assert rate == 16000 and np.array_equal(np.round(wav * 32768), pcm)
    (tmp_path / "b.wav").write_bytes(made.coded(pcm))
    assert sound.sphere_header(tmp_path / "b.wav") is None
    data_bytes = (tmp_path / "a.WAV").read_bytes()
    text = data_bytes[:1024].decode().rstrip("\0 ")
    coding = text.replace("end_head", "sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head")
    (tmp_path / "c.wv1").write_bytes(coding.encode().ljust(1024) + data_bytes[1024:])
    with pytest.raises(PrepError, match="shorten compression, which cannot be read here.*sph2pipe -f wav c.wv1 c.wav"):
        sound.read(tmp_path / "c.wv1")
    (tmp_path / "d.sph").write_bytes(b"NIST_1A\n   1024\nsample_rate -i 16000\n".ljust(1024))
    with pytest.raises(PrepError, match="its header has no end"):
        sound.read(tmp_path / "d.sph")
    (tmp_path / "e.sph").write_bytes(b"NIST_1A\nlots\n")
    with pytest.raises(PrepError, match="header size is b'lots'"):
        sound.read(tmp_path / "e.sph")


def test_wsj(tmp_path):
    copy = tmp_path / "copy"
    for place, name in (("wsj0/si_tr_s/01i", "01ic0201"), ("wsj0/si_tr_s/401", "401c0201"), ("wsj1/si_tr_s/46i", "46ic0201"),
                        ("wsj1/si_dt_20/4k0", "4k0c0301"), ("wsj0/si_et_20/440", "440c0401"),
                        ("wsj0/si_et_20/440", "440c0402")):  # fmt: skip
        (copy / place).mkdir(parents=True, exist_ok=True)
        (copy / place / f"{name}.wv1").write_bytes(made.coded(made.speech(name), kind="NIST"))
    (copy / "wsj0" / "si_et_20" / "440" / "440c0400.dot").write_text("THE BANK SAID (440c0401)\n")
    (copy / "indices").mkdir()
    (copy / "indices" / "si_et_20.ndx").write_text("; Nov'92\n11_14_1: wsj0/si_et_20/440/440c0401\n")
    run("wsj", "--source", copy, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [(r["name"], r["part"], r["split"]) for r in rows] == [
        ("01ic0201", "si284", "train"), ("46ic0201", "si284", "train"), ("4k0c0301", "dev93", "valid"),
        ("440c0401", "eval92", "test"),
    ]  # fmt: skip
    assert rows[3]["text"] == "THE BANK SAID" and rows[3]["speaker"] == "440"
    path = copy / "wsj1/si_dt_20/4k0/4k0c0301.wv1"
    head = path.read_bytes()[:1024].decode().rstrip("\0 ")
    path.write_bytes(head.replace("end_head", "sample_coding -s27 pcm,embedded-shorten-v1.09\nend_head").encode().ljust(1024))
    with pytest.raises(PrepError, match="compressed with shorten. Convert your copy once"):
        wsj.find(copy, ["dev93"])
    path.with_suffix(".wav").write_bytes(made.coded(made.speech("4k0c0301")))
    assert wsj.find(copy, ["dev93"])[0].clean.endswith(".wav")


def chime3_copy(root):
    isolated = root / "data" / "audio" / "16kHz" / "isolated"
    files = [
        ("tr05_bus_real/F01_050C0101_BUS.CH5", 1), ("tr05_bus_real/F01_050C0101_BUS.CH0", 1),
        ("tr05_caf_simu/011_011C0201_CAF.CH5", 2), ("tr05_org/011_011C0201_ORG", 2),
        ("dt05_ped_real/M03_22GC0101_PED.CH5", 3), ("dt05_ped_real/M03_22GC0101_PED.CH0", 3),
        ("dt05_str_simu/M04_051C0101_STR.CH5", 4), ("dt05_bth/M04_051C0101_BTH.CH5", 4),
        ("dt05_bth/M04_051C0101_BTH.CH0", 5),
    ]  # fmt: skip
    for path, key in files:
        target = isolated / f"{path}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(made.coded(made.speech(key)))
    (root / "data" / "transcriptions").mkdir()
    (root / "data" / "transcriptions" / "dt05_real.dot_all").write_text("HELLO THERE (M03_22GC0101_PED)\n")
    return root


def test_chime3(tmp_path, monkeypatch):
    monkeypatch.setattr(chime3, "PAIRS", {"tr05_real": 1, "tr05_simu": 1})
    copy = chime3_copy(tmp_path / "copy")
    run("chime3", "--source", copy, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [(r["name"], r["part"], r["split"], r["noise"]) for r in rows] == [
        ("F01_050C0101_BUS_REAL", "tr05_real", "train", "bus"), ("011_011C0201_CAF_SIMU", "tr05_simu", "train", "caf"),
        ("M03_22GC0101_PED_REAL", "dt05_real", "test", "ped"), ("M04_051C0101_STR_SIMU", "dt05_simu", "test", "str"),
    ]  # fmt: skip
    assert rows[2]["text"] == "HELLO THERE"
    heard, _ = soundfile.read(tmp_path / "out" / rows[3]["clean"], dtype="int16")
    assert np.array_equal(heard, made.speech(4))  # the booth recording of the same microphone
    said = run("chime3", "--source", copy, "--out", tmp_path / "afm", "--protocol", "afm", "--limit", 1)
    assert "chime3, the corpus of the paper" in said and len(rows_of(tmp_path / "afm")) == 2
    monkeypatch.setattr(chime3, "PAIRS", {"tr05_real": 1600, "tr05_simu": 7138})
    with pytest.raises(LayoutError, match="has 1 utterances in tr05_real, CHiME-3 has 1600"):
        chime3.find(copy)
    next(copy.rglob("011_011C0201_ORG.wav")).unlink()
    with pytest.raises(LayoutError, match="has no clean partner; expected .*011_011C0201_ORG.wav"):
        chime3.find(copy, ["tr05_simu"])
    assert sum(chime3.PAIRS.values()) == 8738


def test_rsr2015(tmp_path):
    copy = tmp_path / "copy" / "sph" / "male"
    for name in ("m051_01_002", "m051_02_002", "m051_01_001", "m002_01_001", "m002_05_001", "m002_05_002", "m101_01_002"):
        (copy / name[:4]).mkdir(parents=True, exist_ok=True)
        (copy / name[:4] / f"{name}.sph").write_bytes(made.coded(made.speech(name), kind="NIST"))
    run("rsr2015", "--source", tmp_path / "copy", "--out", tmp_path / "out")
    assert [(r["name"], r["part"], r["split"]) for r in rows_of(tmp_path / "out")] == [
        ("m002_01_001", "enrol", "enrol"), ("m002_05_001", "test", "test"), ("m051_01_002", "enhancer", "train"),
    ]  # fmt: skip


def test_blizzard2011(tmp_path):
    copy = tmp_path / "copy"
    (copy / "wavn").mkdir(parents=True)
    lines = []
    for i in range(4):
        (copy / "wavn" / f"RURAL-{i}.wav").write_bytes(made.coded(made.speech(i, 0.3, 96000), 96000))
        lines.append(f'( RURAL-{i} "Sentence \\"{i}\\"." )\n')
    (copy / "prompts.data").write_text("".join(lines))
    run("blizzard2011", "--source", copy, "--out", tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [r["split"] for r in rows] == ["train", "train", "valid", "test"] and rows[0]["text"] == 'Sentence "0".'
    assert int(rows[0]["n_samples"]) == 4800 and blizzard2011.CARD.stand_in.startswith("ljspeech")


def test_noisex92(tmp_path, monkeypatch):
    monkeypatch.setattr(noisex92, "SECONDS", 3.0)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "Babble.wav").write_bytes(made.coded(made.noise("b", 3.2, 19980), 19980))
    pcm = made.noise("w", 3.2, 19980)
    scipy.io.savemat(copy / "white.mat", {"white": pcm[:, None]})
    run("noisex92", "--source", copy, "--out", tmp_path / "out", "--parts", "babble,white")
    rows = rows_of(tmp_path / "out")
    assert [r["name"] for r in rows] == ["babble", "white"] and all(int(r["n_samples"]) == 51200 for r in rows)
    wav, rate = sound.read(copy / "white.mat")
    assert rate == 19980 and np.array_equal(np.round(wav * 32768), pcm)
    with pytest.raises(LayoutError, match="has no volvo.wav or volvo.mat"):
        noisex92.find(copy, ["volvo"])
    (copy / "volvo.wav").write_bytes(made.coded(made.noise("v", 4.0, 8000), 8000))
    with pytest.raises(LayoutError, match="has 8000 Hz; NOISEX-92 has 19980 Hz.*8 kHz, 8 bits"):
        noisex92.find(copy, ["volvo"])
    (copy / "volvo.wav").write_bytes(made.coded(made.noise("v", 1.0, 19980), 19980))
    with pytest.raises(LayoutError, match="lasts 1.0 s; NOISEX-92 recordings last 3 s"):
        noisex92.find(copy, ["volvo"])
    scipy.io.savemat(copy / "pink.mat", {"pink": np.zeros((9, 1), np.uint8)})
    with pytest.raises(PrepError, match="8-bit samples"):
        sound.read(copy / "pink.mat")


# ---- the command itself ----------------------------------------------------------------------------------------------


def test_cards_need_no_folder():
    for name in prepare.NAMES:
        said = run(name)
        assert "licence" in said and "cite" in said and "Nothing was done: say where to with --out DIR" in said


def test_mistakes_on_the_command_line(tmp_path):
    assert "There is no corpus 'vctk'. Choose from: voicebank_demand" in run("vctk", "--out", tmp_path, ok=False)
    assert "there is no such folder" in run("timit", "--source", tmp_path / "nowhere", "--out", tmp_path / "o", ok=False)
    said = run("timit", "--source", tmp_path, "--source", tmp_path, "--out", tmp_path / "o", ok=False)
    assert "timit has two sources. Other corpora are given as NAME=DIR" in said
    assert "There is no protocol 'wavenet'" in run("toy", "--protocol", "wavenet", "--out", tmp_path / "o", ok=False)
    said = run("toy", "--protocol", "unetgan", "--parts", "train", "--out", tmp_path / "o", ok=False)
    assert "the recipe chooses the parts itself" in said


def test_importing_and_running_needs_no_tensorflow(tmp_path):
    code = (
        "import sys\nfrom data_prep.__main__ import app\n"
        "try:\n    app()\nfinally:\n    assert not {'tensorflow', 'keras', 'librosa', 'matplotlib'} & set(sys.modules)"
    )
    command = [sys.executable, "-c", code, "toy", "--out", str(tmp_path / "toy"), "--limit", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_missing_extras_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    said = run("librispeech", "--out", tmp_path / "ls", "--parts", "dev-clean", ok=False)
    assert "pip install 'ganse_tf[data]'" in said
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(PrepError, match=r"--mirror huggingface needs .*: pip install 'ganse_tf\[hf\]'"):
        voicebank_demand.fetch_mirror(tmp_path / "a", tmp_path / "b", ("test",))


def test_halves_of_other_parts_are_not_read(server, monkeypatch, tmp_path):
    tar = made.tarred(made.librispeech("dev-clean", 2, 2, 0.3))
    server.put("/resources/12/dev-clean.tar.gz", tar)
    monkeypatch.setitem(librispeech.FACTS, "dev-clean", (len(tar), made.md5(tar)))
    half = tmp_path / "ls" / "unpacked" / "other.unpacking" / "dev-clean" / "9" / "9"
    half.mkdir(parents=True)
    (half / "9-9-0000.flac").write_bytes(b"half")
    run("librispeech", "--out", tmp_path / "ls", "--parts", "dev-clean")
    assert {row["speaker"] for row in rows_of(tmp_path / "ls")} == {"100", "101"}
