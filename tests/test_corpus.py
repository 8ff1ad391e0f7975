"""Pairs from folders, manifests and lists; what is wrong is said in a sentence."""

import csv
import doctest
import math

import numpy as np
import pytest
import soundfile as sf

from ganse_tf import audio, corpus, data
from ganse_tf.audio import AudioError

RATE = 16000


def tone(n=1600, level=0.1):
    return (level * np.sin(np.arange(n) / 5)).astype(np.float32)


def make_folder(folder, noisy="noisy", clean="clean", names=("a", "b"), suffix=".wav"):
    for i, name in enumerate(names):
        audio.write(folder / noisy / f"{name}{suffix}", tone(1600 + i, 0.2), RATE)
        audio.write(folder / clean / f"{name}{suffix}", tone(1600 + i), RATE)
    return folder


def write_manifest(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_docstring_examples():
    assert doctest.testmod(corpus).failed == 0


def test_folder(tmp_path):
    found = data.pairs(make_folder(tmp_path))
    assert [pair.name for pair in found] == ["a", "b"]
    noisy, clean, rate = found[1].load()
    assert (noisy.shape, clean.dtype, rate) == ((1601,), np.float32, RATE)
    np.testing.assert_allclose(noisy, 2 * clean, atol=1e-4)


def test_folder_as_text_nested_and_mixed_suffixes(tmp_path):
    make_folder(tmp_path, names=("x/a",), suffix=".flac")
    audio.write(tmp_path / "noisy" / "c.wav", tone(), RATE)
    audio.write(tmp_path / "clean" / "c.flac", tone(), RATE)
    assert [pair.name for pair in data.pairs(str(tmp_path))] == ["c", "x/a"]


def test_voicebank_names(tmp_path):
    make_folder(tmp_path, "noisy_testset_wav", "clean_testset_wav", names=("p232_001", "p257_434"))
    found = data.pairs(tmp_path)
    assert [(pair.name, pair.speaker) for pair in found] == [("p232_001", "p232"), ("p257_434", "p257")]


def test_two_folders_in_a_list(tmp_path):
    make_folder(tmp_path, "noisy_trainset_28spk_wav", "clean_trainset_28spk_wav")
    make_folder(tmp_path, "noisy_testset_wav", "clean_testset_wav", names=("p232_001",))
    with pytest.raises(AudioError, match="2 sub-folders for 'noisy': noisy_testset_wav, noisy_trainset_28spk_wav"):
        data.pairs(tmp_path)
    found = data.pairs([(tmp_path / "noisy_testset_wav", tmp_path / "clean_testset_wav")])
    assert [pair.name for pair in found] == ["p232_001"]


def test_list_of_paths_arrays_and_pairs(tmp_path):
    make_folder(tmp_path)
    files = (tmp_path / "noisy" / "a.wav", str(tmp_path / "clean" / "a.wav"))
    found = data.pairs([files, (tone(), tone()), data.Pair("p", tone(), tone())])
    assert [pair.name for pair in found] == ["a", "pair_00001", "p"]
    assert found[1].load()[2] == 16000  # arrays without a rate: the rate of all eleven papers
    assert data.Pair("x", tone(), tone(), sample_rate=8000).load()[2] == 8000


def test_manifest(tmp_path):
    make_folder(tmp_path)
    row = {
        "name": "utt1", "noisy": "noisy/a.wav", "clean": "clean/a.wav", "sample_rate": "16000", "speaker": "s1",
        "text": "one, two", "noise": "babble", "snr_db": "5.0", "split": "test", "seconds": "0.1",
        "words": '[["one", 0.01, 0.05]]', "gain": "0.3",
    }  # fmt: skip
    assert set(data.MANIFEST_COLUMNS) <= set(row)
    (pair,) = data.pairs(write_manifest(tmp_path / "manifest.csv", [row]))
    assert (pair.name, pair.speaker, pair.text, pair.noise, pair.split) == ("utt1", "s1", "one, two", "babble", "test")
    assert pair.snr_db == 5.0 and pair.words == (("one", 0.01, 0.05),) and pair.sample_rate == 16000
    assert pair.load()[0].shape == (1600,)


def test_manifest_with_three_columns(tmp_path):
    make_folder(tmp_path)
    rows = [{"name": "a", "noisy": "noisy/a.wav", "clean": "clean/a.wav"}]
    (pair,) = data.pairs(write_manifest(tmp_path / "m.csv", rows))
    assert pair.sample_rate is None and math.isnan(pair.snr_db) and pair.words == ()
    assert pair.load()[2] == RATE


def test_a_mixer_counts_as_pairs():
    mixer = data.Mixer([tone(), tone(2000)], "white")
    assert [len(pair.clean) for pair in data.pairs(mixer)] == [len(mixer[0].clean), len(mixer[1].clean)]


def test_missing_things_are_named(tmp_path):
    with pytest.raises(AudioError, match="There is no '.*nowhere'. Expected a folder with noisy/ and clean/"):
        data.pairs(tmp_path / "nowhere")
    with pytest.raises(AudioError, match="no manifest '.*nothing.csv'"):
        data.pairs(tmp_path / "nothing.csv")
    with pytest.raises(AudioError, match="no sub-folder noisy/.*found: nothing"):
        data.pairs(tmp_path)
    (tmp_path / "noisy").mkdir()
    with pytest.raises(AudioError, match="no sub-folder clean/.*found: noisy"):
        data.pairs(tmp_path)
    (tmp_path / "clean").mkdir()
    with pytest.raises(AudioError, match="hold no audio"):
        data.pairs(tmp_path)
    (tmp_path / "one.wav").write_bytes(b"x")
    with pytest.raises(AudioError, match="is one file; expected a folder"):
        data.pairs(tmp_path / "one.wav")
    with pytest.raises(AudioError, match="list of pairs is empty"):
        data.pairs([])
    with pytest.raises(AudioError, match=r"Item 0 of the list is ndarray; expected a pair \(noisy, clean\)"):
        data.pairs([tone()])


def test_files_without_partner_are_named(tmp_path):
    make_folder(tmp_path, names=("a", "b", "c"))
    (tmp_path / "clean" / "b.wav").unlink()
    (tmp_path / "noisy" / "c.wav").rename(tmp_path / "noisy" / "d.wav")
    with pytest.raises(AudioError, match="3 of 5 files have no partner: clean/c, noisy/b, noisy/d. Every noisy file"):
        data.pairs(tmp_path)


def test_bad_manifests_are_explained(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("")
    with pytest.raises(AudioError, match="has no rows"):
        data.pairs(path)
    path.write_text("name,noisy,clean\n")
    with pytest.raises(AudioError, match="has no rows"):
        data.pairs(path)
    write_manifest(path, [{"id": "a", "noisy": "n.wav"}])
    with pytest.raises(AudioError, match="no column name, clean; expected at least name, noisy, clean; found id"):
        data.pairs(path)
    write_manifest(path, [{"name": "a", "clean": "c.wav"}])
    with pytest.raises(AudioError, match="no column noisy.*data.Mixer takes this file"):
        data.pairs(path)
    write_manifest(path, [{"name": "a", "noisy": "n", "clean": "c"}, {"name": "b", "noisy": "", "clean": "c"}])
    with pytest.raises(AudioError, match="Line 3 of .* has no entry for noisy"):
        data.pairs(path)
    write_manifest(path, [{"name": "a", "noisy": "n", "clean": "c", "snr_db": "five"}])
    with pytest.raises(AudioError, match="Line 2 of .* cannot be read .*five"):
        data.pairs(path)


def test_load_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(AudioError, match="x: noisy has 1600 samples and clean 1700; a pair needs equal lengths"):
        data.Pair("x", tone(1600), tone(1700)).load()
    with pytest.raises(AudioError, match="x: clean contains NaN"):
        data.Pair("x", tone(), tone() * np.nan).load()
    with pytest.raises(AudioError, match="x: noisy has 2 channels; training data and pairs are mono"):
        data.Pair("x", np.zeros((1600, 2), np.float32), tone()).load()
    sf.write(tmp_path / "a.wav", tone(), 16000)
    sf.write(tmp_path / "b.wav", tone(), 8000)
    with pytest.raises(AudioError, match="noisy has 8000 Hz and clean 16000 Hz"):
        data.Pair("x", tmp_path / "b.wav", tmp_path / "a.wav").load()
    with pytest.raises(AudioError, match="has 16000 Hz, but the pair or manifest says 48000 Hz"):
        data.Pair("x", tmp_path / "a.wav", tmp_path / "a.wav", sample_rate=48000).load()
    with pytest.raises(AudioError, match="no file .*gone.wav"):
        data.Pair("x", tmp_path / "gone.wav", tmp_path / "a.wav").load()


def test_header_agrees_with_reading(tmp_path):
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        path = tmp_path / f"a{suffix}"
        audio.write(path, tone(12345), RATE)
        wav, rate = audio.read(path)
        assert corpus.header(path) == (rate, len(wav))
    sf.write(tmp_path / "stereo.wav", np.zeros((100, 2)), RATE)
    with pytest.raises(AudioError, match="2 channels"):
        corpus.header(tmp_path / "stereo.wav")
    (tmp_path / "text.wav").write_text("not audio at all")
    with pytest.raises(AudioError, match="cannot be read as audio"):
        corpus.header(tmp_path / "text.wav")
    sf.write(tmp_path / "empty.wav", np.zeros(0), RATE)
    with pytest.raises(AudioError, match="empty"):
        corpus.header(tmp_path / "empty.wav")


def test_pack_is_exact_for_16_bits_and_keeps_loud_floats():
    pcm = np.arange(-32768, 32768, 7, dtype=np.int16)
    wav = pcm.astype(np.float32) / 32768
    assert corpus.pack(wav).dtype == np.int16
    np.testing.assert_array_equal(corpus.unpack(corpus.pack(wav)), wav)
    loud = 1.5 * tone(level=1.0)
    np.testing.assert_array_equal(corpus.unpack(corpus.pack(loud)), loud)


def test_toy_corpus():
    everything = data.toy_corpus()
    parts = {split: data.toy_corpus(split) for split in ("train", "valid", "test")}
    assert len(everything) == sum(map(len, parts.values())) == 352
    for split, found in parts.items():
        assert {u.split for u in found} == {split}
    first = parts["test"][0]
    assert first.wav.dtype == np.float32 and first.sample_rate == 16000 and first.gender in "fm"
    assert {u.kind for u in everything} == {"digits", "sentence"}
    first.wav[:] = 0  # the caller's own copy
    assert data.toy_corpus("test")[0].wav.any()
    with pytest.raises(ValueError, match="split is 'dev'; expected 'train', 'valid', 'test' or None"):
        data.toy_corpus("dev")


def test_real_pairs(shared_data):
    found = data.pairs(shared_data / "pairs" / "vbdemand_p232")
    assert len(found) == 41
    noisy, clean, rate = found[0].load()
    assert rate == 16000 and len(noisy) == len(clean) > 8000
