"""What the README promises: its Python runs, its commands exist, its files are there."""

import re

import keras
import numpy as np
import pytest

import ganse_tf
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_forty_line_paper_trains_saves_and_enhances(tmp_path):
    namespace = {}
    exec(compile(next(b for b in BLOCKS if "class MaskGAN" in b), "README.md", "exec"), namespace)
    keras.utils.set_random_seed(0)  # three epochs from unlucky first weights may not show it
    model = namespace["MaskGAN"](units=8)
    model.compile()
    pairs = ganse_tf.data.toy_pairs("train", n=3, snr_db=(5,))
    history = model.fit(ganse_tf.data.examples(pairs, model, batch_size=64), epochs=3, verbose=0).history
    assert history["g_loss"][-1] < history["g_loss"][0]
    assert model.enhance(np.zeros(999, np.float32), 8000).shape == (999,)
    model.save(tmp_path / "mask.keras")


def test_training_lines_run(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    code = next(b for b in BLOCKS if "SEGAN.tiny()" in b)
    code = code.replace('toy_pairs("train")', 'toy_pairs("train", n=4)').replace('toy_pairs("test")', 'toy_pairs("test", n=1)')
    code = code.replace("epochs=5", "epochs=1, verbose=0").replace("SEGAN.tiny()", "SEGAN(segment=1024, widths=(4, 8))")
    exec(compile("import ganse_tf\n" + code, "README.md", "exec"), {})
    assert "PESQ-WB" in capsys.readouterr().out


@pytest.mark.skipif("metricgan" not in ganse_tf.presets.names(), reason="no released MetricGAN in this checkout")
def test_enhance_lines_run(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ganse_tf.audio.write("noisy.wav", 0.1 * np.random.default_rng(0).standard_normal((4410, 2)), 44100)
    exec(compile(next(b for b in BLOCKS if "from_preset" in b), "README.md", "exec"), {})
    wav, rate = ganse_tf.audio.read("enhanced.wav")
    assert wav.shape == (4410, 2) and rate == 44100


def test_commands_and_links_exist():
    from typer.main import get_command

    from ganse_tf.__main__ import app

    known = set(get_command(app).commands)
    assert set(re.findall(r"^ganse-tf (\w+)", README, flags=re.M)) <= known
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


def test_paper_table_is_the_catalogue():
    from ganse_tf import catalogue

    for row in catalogue.papers():
        assert f"| `{row['class']}` |" in README, row["class"]
        for network in ("generator", "discriminator"):
            if row[network] is not None:
                assert f"{row[network]:,}" in README, (row["class"], network)
