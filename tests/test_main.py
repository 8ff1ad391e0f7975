"""The command line: what it prints and writes, exit codes 0, 1 and 2, and no traceback for bad input."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import ganse_tf
from ganse_tf import __main__ as cli
from ganse_tf import audio, catalogue, presets, runs

MODEL_NAMES = [row["class"] for row in catalogue.papers()]


def run(*args, code=0):
    """Run a command; returns (standard output, standard error) with single spaces."""
    found = CliRunner().invoke(cli.app, [str(arg) for arg in args], terminal_width=200)
    assert found.exit_code == code, f"{found.output}\n{found.exception!r}"
    return found.stdout, " ".join(found.stderr.split())


def sound(path, n=8000, rate=16000, channels=0, seed=0, subtype="PCM_16"):
    """A file with a tone in noise."""
    wav = 0.05 * np.random.default_rng(seed).standard_normal((n, channels) if channels else n)
    wav = wav + 0.3 * np.sin(np.arange(n) / 9)[:, None] if channels else wav + 0.3 * np.sin(np.arange(n) / 9)
    audio.write(path, wav, rate, subtype=subtype)
    return path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A preset named metricgan, small and untrained, instead of the released ones."""
    from ganse_tf.models.metricgan import MetricGAN

    monkeypatch.setattr(presets, "WEIGHTS", tmp_path / "weights")
    monkeypatch.setattr(presets, "INDEX", tmp_path / "weights" / "presets.json")
    presets.cards.cache_clear()
    model = MetricGAN.plus(lstm_units=4, dense_units=4, d_filters=(2, 2, 2, 2))
    scores = {"3 files": {"noisy": {"pesq_wb": 1.5}, "enhanced": {"pesq_wb": 2.0, "stoi": 0.9}}}
    presets.save("metricgan", model, {"limits": "made for a test", "stages": [{"cpu_minutes": 1}], "scores": scores})
    yield
    presets.cards.cache_clear()


@pytest.fixture
def no_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(presets, "INDEX", tmp_path / "nothing.json")
    presets.cards.cache_clear()
    yield
    presets.cards.cache_clear()


# ---- list, card, help ------------------------------------------------------------------------------------------------


def test_list_shows_every_paper_with_its_parameters(weights):
    out, _ = run("list")
    for name in MODEL_NAMES:
        assert name in out
    line = next(line for line in out.splitlines() if "MetricGAN" in line)
    assert "1,892,057" in line and "345,330" in line and "STFT magnitude mask" in line and line.split()[-1] == "metricgan"


def test_list_as_markdown(no_weights):
    lines = run("list", "--markdown")[0].splitlines()
    assert lines[0] == "| class | paper | domain | output | G | D | weights |" and lines[1].count("---") == 7
    assert next(line for line in lines if "SEGAN:" in line or "| SEGAN |" in line).endswith("| 73,100,049 | 24,373,081 | - |")
    assert len(lines) == 2 + len(MODEL_NAMES)


def test_only_a_missing_file_leaves_a_paper_out(monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path)
    assert catalogue.papers() == []
    (tmp_path / "afm.py").write_text('class AFM(Base):\n    paper = "A"\n    domain = "d"\n    outputs = "features"\n')
    (row,) = catalogue.papers()
    assert (row["class"], row["paper"], row["outputs"]) == ("AFM", "A", "features")


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_the_table_says_what_the_classes_say(name):
    row = next(row for row in catalogue.papers() if row["class"] == name)
    cls = catalogue.model_class(name)
    assert cls is getattr(ganse_tf, name)
    assert (row["paper"], row["url"], row["domain"], row["outputs"]) == (cls.paper, cls.url, cls.domain, cls.outputs)
    assert row["generator"] and row["discriminator"], f"count {name}'s parameters and add them to catalogue.PARAMETERS"


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_curves_are_explained_by_the_loss_a_paper_uses(name):
    source = (catalogue.FOLDER / f"{ganse_tf._MODELS[name]}.py").read_text(encoding="utf-8")
    assert ("losses.cross_entropy(" in source) == (name not in catalogue.D_SCORES)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODEL_NAMES)
def test_parameter_counts_are_those_of_the_networks(name):
    model = catalogue.model_class(name)()
    networks = model.generator.trainable_variables, model.network_variables("discriminator")
    assert tuple(sum(int(np.prod(v.shape)) for v in found) for found in networks) == catalogue.PARAMETERS[name]


@pytest.mark.parametrize("spelling", ["DNNGAN", "dnn_gan", "dnn-gan", "DnnGan"])
def test_spelling_of_models_is_forgiven(spelling):
    assert catalogue.class_name(spelling) == "DNNGAN"


def test_looking_around_does_not_load_tensorflow():
    script = (
        "import sys\nfrom typer.testing import CliRunner\nfrom ganse_tf.__main__ import app\n"
        "for args in (['list'], ['--help'], ['train', '--help'], ['enhance', 'a.wav', 'b.wav']):\n"
        "    CliRunner().invoke(app, args)\n"
        "print('tensorflow' in sys.modules, 'keras' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=cli.Path(__file__).parents[1])
    assert found.stdout.strip() == "False False", found.stderr


def test_python_m_works_and_tells_its_version():
    command = [sys.executable, "-m", "ganse_tf", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=cli.Path(__file__).parents[1])
    assert (found.returncode, found.stdout.strip(), found.stderr) == (0, f"ganse_tf {ganse_tf.__version__}", "")


def test_card_prints_what_is_known(weights):
    out, _ = run("card", "metricgan")
    assert "limits: made for a test" in out and 'stages: [{"cpu_minutes": 1}]' in out and "sha256: " in out
    assert out.splitlines()[-3:] == ["  scores, 3 files:", "    noisy: PESQ-WB 1.50", "    enhanced: PESQ-WB 2.00, STOI 0.900"]
    assert run("card", "nobody", code=1)[1] == "ganse-tf: There is no preset 'nobody'. Released presets: metricgan."


@pytest.mark.parametrize("command", ["list", "card", "check", "enhance", "evaluate", "calibrate", "train", "demo"])
def test_every_help_page_has_examples(command):
    out, _ = run(command, "--help")
    assert "Examples:" in out and f"ganse-tf {command}" in out


def test_usage_errors_exit_with_2():
    assert "Missing argument" in run("enhance", code=2)[1]
    assert "No such command" in run("enhnace", code=2)[1]
    assert "not a time; give a number above 0" in run("train", "segan", "--minutes", "-1", code=2)[1]
    assert "'huge' is not one of" in run("train", "segan", "--preset", "huge", code=2)[1]


def test_check_answers_with_its_exit_code(monkeypatch):
    from ganse_tf import setup_check

    monkeypatch.setattr(setup_check, "findings", lambda: [("ok", "fine")])
    assert run("check")[0].splitlines() == ["ok    fine", "Ready."]
    monkeypatch.setattr(setup_check, "findings", lambda: [("FIX", "pesq is missing")])
    assert "1 thing to fix" in run("check", code=1)[0]


# ---- enhance ---------------------------------------------------------------------------------------------------------


def test_enhance_a_file_keeps_rate_length_channels_and_format(tmp_path):
    path = sound(tmp_path / "a.flac", n=11025, rate=44100, channels=2)
    out, _ = run("enhance", path, tmp_path / "b.flac", "--model", "wiener")
    assert out.startswith("Enhanced 1 file, 0.2 s of sound, with wiener in ")
    info = soundfile.info(tmp_path / "b.flac")
    assert (info.samplerate, info.frames, info.channels, info.format) == (44100, 11025, 2, "FLAC")
    assert not np.array_equal(audio.read(path)[0], audio.read(tmp_path / "b.flac")[0])


def test_enhance_a_folder_keeps_subfolders_and_formats(tmp_path):
    sound(tmp_path / "in" / "a.wav", subtype="FLOAT")
    sound(tmp_path / "in" / "deep" / "er" / "a.flac", rate=8000)
    (tmp_path / "in" / "notes.txt").write_text("not audio")
    out, _ = run("enhance", tmp_path / "in", tmp_path / "in" / "out", "--model", "wiener")
    assert out.startswith("Enhanced 2 files")
    files = sorted(p.relative_to(tmp_path / "in" / "out").as_posix() for p in (tmp_path / "in" / "out").rglob("*.*"))
    assert files == ["a.wav", "deep/er/a.flac"]
    assert soundfile.info(tmp_path / "in" / "out" / "a.wav").subtype == "FLOAT"
    run("enhance", tmp_path / "in", tmp_path / "in" / "out", "--model", "wiener", "--overwrite")  # not its own output
    assert not (tmp_path / "in" / "out" / "out").exists()


def test_enhance_never_overwrites_the_recording(tmp_path):
    path = sound(tmp_path / "in" / "a.wav")
    before = path.read_bytes()
    message = "This would overwrite the recording itself"
    assert message in run("enhance", path, path, "--model", "wiener", "--overwrite", code=1)[1]
    assert message in run("enhance", path, path.parent, "--model", "wiener", "--overwrite", code=1)[1]
    assert message in run("enhance", path.parent, path.parent, "--model", "wiener", "--overwrite", code=1)[1]
    other = sound(tmp_path / "clean" / "a.wav", seed=1)
    kept = other.read_bytes()
    error = run("enhance", path.parent, other.parent, "--model", "wiener", code=1)[1]
    assert "exists already. Give another OUT, or --overwrite to replace it." in error
    assert path.read_bytes() == before and other.read_bytes() == kept


def test_enhance_goes_on_after_a_bad_file_and_says_so(tmp_path):
    sound(tmp_path / "in" / "good.wav")
    (tmp_path / "in" / "bad.wav").write_text("this is not sound")
    out, error = run("enhance", tmp_path / "in", tmp_path / "out", "--model", "wiener", code=1)
    assert out.startswith("Enhanced 1 file,") and (tmp_path / "out" / "good.wav").exists()
    assert "bad.wav' cannot be read as audio" in error and "1 file of 2 could not be enhanced" in error


@pytest.mark.parametrize(
    "args, message",
    [
        (("missing.wav", "b.wav"), "There is no file 'missing.wav'"),
        (("empty", "out"), "hold no audio (.wav, .flac, .ogg, .mp3)"),
        (("folder", "b.wav"), "OUT must be a folder, not the file 'b.wav'"),
        (("folder/a.wav", "b.aac"), "its suffix is '.aac'; expected one of"),
        (("folder/a.wav", "b.wav", "--model", "magic"), "There is no model 'magic'. Released presets: "),
    ],
)
def test_enhance_explains_bad_input_in_a_sentence(tmp_path, monkeypatch, args, message):
    monkeypatch.chdir(tmp_path)
    sound(tmp_path / "folder" / "a.wav")
    (tmp_path / "empty").mkdir()
    if "--model" not in args:
        args = (*args, "--model", "wiener")
    _, error = run("enhance", *args, code=1)
    assert error.startswith("ganse-tf: ") and message in error and "Traceback" not in error


def test_enhance_with_a_preset_and_without_any(tmp_path, weights):
    path = sound(tmp_path / "a.wav", rate=22050)
    out, _ = run("enhance", path, tmp_path / "out")
    assert "with metricgan in" in out and soundfile.info(tmp_path / "out" / "a.wav").samplerate == 22050
    presets.INDEX.unlink()
    presets.cards.cache_clear()
    _, error = run("enhance", path, tmp_path / "b.wav", code=1)
    assert "no released weights in this copy" in error and "--model wiener" in error


def test_enhance_with_a_model_trained_here(tmp_path):
    from ganse_tf.models.segan import SEGAN

    model = SEGAN(segment=64, widths=(2, 4), kernel=5)
    model.compile()
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.keras")
    out, _ = run("enhance", sound(tmp_path / "a.wav"), tmp_path / "b.wav", "--model", tmp_path / "run")
    assert f"with {tmp_path / 'run'} in" in out.replace("\n", "") and (tmp_path / "b.wav").exists()


def test_debug_shows_the_traceback(tmp_path):
    found = CliRunner().invoke(cli.app, ["--debug", "enhance", str(tmp_path / "no.wav"), "b.wav", "--model", "wiener"])
    assert isinstance(found.exception, audio.AudioError)


def test_warnings_become_a_line(tmp_path, monkeypatch):
    from ganse_tf.downstream import classical

    monkeypatch.setattr(classical, "wiener", lambda wav, rate: 3 * wav)  # beyond full scale: clipped with a warning
    _, error = run("enhance", sound(tmp_path / "a.wav"), tmp_path / "b.wav", "--model", "wiener")
    assert error.startswith("ganse-tf: note: ") and "were clipped" in error and "UserWarning" not in error


# ---- evaluate, calibrate, prepare ------------------------------------------------------------------------------------


def test_evaluate_prints_a_table_and_writes_csv(tmp_path):
    for i in range(2):
        sound(tmp_path / "clean" / f"{i}.wav", seed=i)
        sound(tmp_path / "noisy" / f"{i}.wav", seed=i + 5)
        sound(tmp_path / "enhanced" / f"{i}.flac", seed=i + 9)
    folders = [part for side in ("clean", "noisy", "enhanced") for part in (f"--{side}", tmp_path / side)]
    out, _ = run("evaluate", *folders, "--metrics", "si_sdr,ssnr", "--csv", tmp_path / "scores.csv")
    lines = out.splitlines()
    assert lines[0].split("|")[2:4] == [" SI-SDR (dB) ", " SSNR (dB) "]
    assert lines[2].startswith("| noisy |") and lines[3].startswith("| enhanced |")
    with open(tmp_path / "scores.csv", newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == ["0", "1"]


def test_evaluate_explains_folders_that_do_not_match(tmp_path):
    sound(tmp_path / "clean" / "a.wav")
    sound(tmp_path / "enhanced" / "b.wav")
    _, error = run("evaluate", "--clean", tmp_path / "clean", "--enhanced", tmp_path / "enhanced", code=1)
    assert error.startswith("ganse-tf: ") and "have no partner" in error
    _, error = run("evaluate", "--clean", tmp_path / "no", "--enhanced", tmp_path / "enhanced", code=1)
    assert "is missing; expected a folder of audio files" in error
    _, error = run("evaluate", "--clean", tmp_path, "--enhanced", tmp_path, "--metrics", "mos", code=1)
    assert "ganse-tf: " in error


def test_calibrate_exits_with_1_when_the_files_are_others(tmp_path):
    pytest.importorskip("data_prep.calibrate")
    for side, seed in (("clean", 0), ("noisy", 1)):
        sound(tmp_path / side / "a.wav", seed=seed)
    out, _ = run("calibrate", tmp_path, code=1)
    assert "1 files are not the test set of 824" in out


def test_prepare_forwards_to_data_prep():
    out, _ = run("prepare", "--help")
    assert "Usage: ganse-tf prepare" in out and "--accept-license" in out
    out, _ = run("prepare", "toy")
    assert "toy corpus" in out and "Nothing was done: say where to with --out DIR." in out
    assert "data_prep: " in run("prepare", "nothing", code=1)[1]


# ---- train, demo -----------------------------------------------------------------------------------------------------


def test_train_hands_its_options_over(tmp_path, monkeypatch):
    seen = {}

    def train(plan, out, epochs, **kwargs):
        seen.update(plan=plan, out=out, epochs=epochs, display=kwargs["show"](), **kwargs)
        return 3

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.chdir(tmp_path)
    out, _ = run("train", "dnn_gan", "--minutes", 0.5, "--batch-size", 4, "--limit", 9, "--adversarial-weight", 0, "--seed", 7)
    assert seen["plan"] == runs.Plan("DNNGAN", "tiny", "toy", 4, None, 9, 0.0, 7)
    assert seen["epochs"] > 10**6 and seen["minutes"] == 0.5 and seen["validate"] == 4 and seen["display"].minutes == 0.5
    assert "3 epochs done. In runs/dnn_gan: model.keras" in out and "--model runs/dnn_gan" in out
    run("train", "SEGAN", "--preset", "paper", "--data", "d", "--out", "o", "--validate", 0)
    assert seen["plan"] == runs.Plan("SEGAN", "paper", "d") and str(seen["out"]) == "o"
    assert seen["epochs"] == 10 and seen["minutes"] is None and seen["display"].epochs == 10


def test_train_explains_bad_input_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error = run("train", "segam", code=1)[1]
    assert error.startswith("ganse-tf: There is no model 'segam'. Did you mean SEGAN? Models: SEGAN, ")
    assert "There is no 'nowhere'" in run("train", "segan", "--data", "nowhere", code=1)[1]
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_stopping_a_training_says_how_to_go_on(tmp_path, monkeypatch):
    def train(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "train", train)
    assert "The same command goes on from the last whole epoch." in run("train", "segan", "--out", tmp_path, code=130)[1]


@pytest.mark.parametrize(
    "raised, message",
    [
        (lambda tf: MemoryError(), "There is not enough memory. Give a smaller --batch-size"),
        (lambda tf: tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), "There is not enough memory"),
        (lambda tf: tf.errors.InvalidArgumentError(None, None, "shapes differ\nsecond line"), "TensorFlow says: shapes differ"),
        (lambda tf: RuntimeError("g_loss became NaN"), "g_loss became NaN"),
        (lambda tf: PermissionError(13, "Permission denied", "runs"), "ganse-tf: Permission denied: 'runs'"),
    ],
)
def test_failures_of_a_training_are_a_sentence(tmp_path, monkeypatch, raised, message):
    import tensorflow as tf

    def train(*_, **__):
        raise raised(tf)

    monkeypatch.setattr(runs, "train", train)
    error = run("train", "segan", "--out", tmp_path, code=1)[1]
    assert error.startswith("ganse-tf: ") and message in error and "second line" not in error


def test_a_mistake_of_ours_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "train", lambda *_, **__: {}["no such key"])
    found = CliRunner().invoke(cli.app, ["train", "segan", "--out", str(tmp_path)])
    assert isinstance(found.exception, KeyError)


def test_demo_hands_its_options_over(tmp_path, monkeypatch):
    from ganse_tf import demo

    seen = {}
    monkeypatch.setattr(demo, "run", lambda out, **kwargs: seen.update(out=out, **kwargs))
    run("demo", "--out", tmp_path / "d", "--minutes", 0.1, "--pairs", 2)
    assert (seen["out"], seen["minutes"], seen["n_pairs"]) == (tmp_path / "d", 0.1, 2)
    assert "not a time" in run("demo", "--minutes", 0, code=2)[1]
