"""Manifests of data_prep: written whole, read back, checked against their files."""

import numpy as np
import pytest
import soundfile as sf

from data_prep import manifest
from ganse_tf import data, noises
from ganse_tf.audio import AudioError


@pytest.fixture
def rows(tmp_path):
    """Two pairs on disk and their rows."""
    found = []
    for name, split in (("a", "train"), ("b", "test")):
        tone = (0.1 * np.sin(np.arange(16000) / 7)).astype(np.float32)
        noisy, clean, facts = data.mix(tone, noises.make("white", 16000), 5.0, name=name, details=True)
        for side, wav in (("noisy", noisy), ("clean", clean)):
            (tmp_path / side).mkdir(exist_ok=True)
            sf.write(tmp_path / side / f"{name}.wav", wav, 16000, subtype="FLOAT")
        found.append({
            "name": name, "noisy": f"noisy/{name}.wav", "clean": f"clean/{name}.wav", "sample_rate": 16000,
            "speaker": f"speaker {name}", "text": 'two "words", comma', "noise": "white", "snr_db": 5.0, "split": split,
            "seconds": "1.0000", "gain": facts["gain"],
        })  # fmt: skip
    return found


COLUMNS = (*data.MANIFEST_COLUMNS, "gain")


def test_round_trip(tmp_path, rows):
    path = tmp_path / "manifest.csv"
    manifest.write(path, rows, COLUMNS)
    assert manifest.read(path) == [{k: str(v) for k, v in row.items()} for row in rows]
    assert [pair.text for pair in data.pairs(path)] == ['two "words", comma'] * 2
    assert manifest.validate(path, measure=True) == []
    assert b"\r" not in path.read_bytes() and [p.name for p in tmp_path.glob(".*")] == []


def test_write_refuses_unknown_columns_and_absolute_paths(tmp_path, rows):
    with pytest.raises(ValueError, match="Row 0 has gain; the columns are name, noisy"):
        manifest.write(tmp_path / "m.csv", rows)
    rows[1]["clean"] = str(tmp_path / "clean" / "b.wav")
    with pytest.raises(ValueError, match="Row 1: .* is absolute; write it relative to"):
        manifest.write(tmp_path / "m.csv", rows, COLUMNS)
    assert not (tmp_path / "m.csv").exists()


def problems(tmp_path, rows, **options):
    manifest.write(tmp_path / "manifest.csv", rows, COLUMNS)
    return manifest.validate(tmp_path / "manifest.csv", **options)


def test_validate_finds_each_kind_of_damage(tmp_path, rows):
    def found(index, **change):
        return problems(tmp_path, [row | change if i == index else row for i, row in enumerate(rows)], measure=True)

    assert found(1, name="a") == ["a: the name occurs more than once."]
    assert found(1, speaker="speaker a") == ["b: speaker speaker a is in train and in test."]
    assert found(0, sample_rate=8000)[0] == "a: noisy/a.wav has 16000 Hz, the manifest says 8000 Hz."
    assert found(0, seconds=2)[0] == "a: noisy/a.wav lasts 1.0000 s, the manifest says 2 s."
    assert found(0, snr_db=6) == ["a: the measured SNR is 5.00 dB, the manifest says 6 dB."]
    assert "There is no file" in found(0, clean="clean/gone.wav")[0]
    sf.write(tmp_path / "clean" / "b.wav", np.zeros(15000), 16000)
    assert "a pair needs equal lengths" in problems(tmp_path, rows)[-1]


def test_validate_columns(tmp_path):
    (tmp_path / "m.csv").write_text("id,noisy\na,b.wav\n")
    assert manifest.validate(tmp_path / "m.csv") == ["m.csv: no column name, clean."]
    with pytest.raises(AudioError, match="no manifest"):
        manifest.validate(tmp_path / "gone.csv")
