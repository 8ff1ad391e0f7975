"""The demo: one page that holds everything, players that play, pictures with words, honest tables."""

import base64
import csv
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile
from rich.console import Console

from ganse_tf import data, demo, presets
from ganse_tf.models.metricgan import MetricGAN
from ganse_tf.models.segan import SEGAN

VOID = {"meta", "link", "img", "br", "input"}


class Reader(HTMLParser):
    """Collects tags with their attributes and checks that they nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, text):
        self.words.append(text)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The demo with small networks: (folder, what was printed)."""
    folder, patch = tmp_path_factory.mktemp("demo"), pytest.MonkeyPatch()
    patch.setattr(presets, "WEIGHTS", folder / "weights")
    patch.setattr(presets, "INDEX", folder / "weights" / "presets.json")
    presets.cards.cache_clear()
    presets.save("metricgan", MetricGAN.plus(lstm_units=4, dense_units=4, d_filters=(2, 2, 2, 2)), {})
    patch.setattr(SEGAN, "tiny", classmethod(lambda cls, **kw: cls(segment=4096, widths=(2, 4), **kw)))
    patch.setattr(demo, "TRAIN_PAIRS", 4)
    said = io.StringIO()
    demo.run(folder / "out", minutes=0.01, n_pairs=2, console=Console(file=said, width=160))
    patch.undo()
    presets.cards.cache_clear()
    return folder / "out", said.getvalue()


@pytest.fixture(scope="module")
def page(made):
    return Reader((made[0] / "index.html").read_text(encoding="utf-8"))


def test_the_terminal_shows_the_scores_with_the_noisy_row_first(made):
    lines = [line.split() for line in made[1].splitlines()]
    header = next(i for i, words in enumerate(lines) if words[:1] == ["system"])
    assert lines[header][1:] == "PESQ-WB STOI SI-SDR (dB) SSNR (dB) CSIG CBAK COVL failures".split()
    assert [words[0] for words in lines[header + 2 : header + 6]] == ["noisy", "Wiener", "metricgan", "new"]


def test_the_page_needs_nothing_from_outside(made, page):
    assert page.open == []
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "poster", "srcset"):
            target = attrs.get(name, "data:,")
            assert target.startswith(("data:", "#")), f"<{tag} {name}={target[:60]}>"
    text = (made[0] / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"url\((?!['\"]?data:)|@import|https?://", text)
    assert (made[0] / "index.html").stat().st_size < demo.PAGE_BYTES


def test_every_player_decodes_and_has_a_name(made, page):
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    players = page.all("audio")
    assert len(players) == 2 * 5  # two examples; noisy, Wiener, metricgan, SEGAN, clean
    for attrs in players:
        assert "controls" in attrs and attrs["aria-labelledby"] in ids
        wav, rate = soundfile.read(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert rate == 16000 and 1.0 < len(wav) / rate < 5.0
    assert sorted(p.name for p in made[0].glob("*.wav"))[:2] == ["1_clean.wav", "1_metricgan.wav"]


def test_sounds_are_those_of_the_toy_test_speakers(made):
    pairs = data.toy_pairs("test", n=2, snr_db=demo.SNRS_DB)
    written = [soundfile.read(path)[0] for path in sorted(made[0].glob("*_clean.wav"))]
    for wav in written:
        assert any(len(wav) == len(p.clean) and np.abs(wav - p.clean).max() < 1e-4 for p in pairs)


def test_pictures_speak(made, page):
    images = page.all("img")
    assert len(images) == 2 * 5 + 2  # strips, the mask, the curves
    for attrs in images:
        assert len(attrs["alt"]) > 40 and attrs["src"].startswith("data:image/png;base64,iVBOR")
    assert any(attrs["alt"].startswith("Mask of metricgan") for attrs in images)
    assert sorted(p.name for p in (made[0] / "figures").iterdir()) == ["curves.png", "example1.png", "example2.png", "mask.png"]


def test_headings_are_in_order_and_links_lead_somewhere(page):
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for attrs in page.all("a"):
        assert attrs["href"][1:] in ids
    for _, attrs in page.tags:
        assert attrs.get("aria-labelledby", ids[0]) in ids
    assert page.all("html")[0]["lang"] == "en" and len(page.all("details")) == 2


def test_scores_csv_has_a_line_per_system_and_utterance(made):
    with open(made[0] / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["system"] for row in rows[:4]] == ["noisy", "noisy", "Wiener filter", "Wiener filter"] and len(rows) == 8
    for row in rows:
        assert 1.0 <= float(row["pesq_wb"]) <= 4.65 or "pesq_wb" in row["failures"]


def test_the_page_says_how_it_was_made(page):
    text = " ".join(" ".join(page.words).split())
    assert "python -m ganse_tf demo --minutes 0.01 --pairs 2 with seed 0" in text
    assert "never disappears" in text and "Names in lower case are released weights" in text
    assert "No released weights" not in text
    assert "Speaker" in text and "dB SNR" in text


def test_without_weights_the_page_says_so():
    template = "a<!-- if mask -->b<!-- end mask -->c<!-- if absent -->d<!-- end absent --><!-- if mask -->e<!-- end mask -->"
    assert demo._choose(template, mask=False, absent=True) == "acd"
    assert demo._choose(template, mask=True, absent=False) == "abce"


def test_the_best_of_a_column_is_bold_and_failures_are_counted():
    class Table:
        metrics = ("pesq_wb", "stoi")

        def __init__(self, pesq, stoi, failed):
            self.values, self.failed = {"pesq_wb": pesq, "stoi": stoi}, failed

        def means(self):
            return self.values

        def failures(self):
            return {"pesq_wb": {"silence": self.failed}} if self.failed else {}

    tables = {"noisy": Table(1.5, 0.9, 0), "silent": Table(float("nan"), 0.1, 3)}
    header, rows = demo.score_rows(tables)
    assert header == ["system", "PESQ-WB", "STOI", "failures"]
    assert rows == [["noisy", "1.50", "0.900", "0"], ["silent", "n/a", "0.100", "3"]]


def test_the_mask_is_what_metricgan_multiplies_with():
    import tensorflow as tf

    model = MetricGAN.plus(lstm_units=4, dense_units=4, d_filters=(2, 2, 2, 2))
    wav = np.random.default_rng(0).uniform(-0.1, 0.1, 8000).astype(np.float32)
    feature = model.to_feature(tf.abs(model.spectrum(tf.constant(wav[None]))))
    np.testing.assert_allclose(demo.mask_of(model, wav), model.generator(feature)[0], atol=1e-4)


def test_minutes_in_words():
    assert [demo._minutes(m) for m in (1, 2, 0.5, 1.5)] == ["1 minute", "2 minutes", "30 seconds", "90 seconds"]
    assert demo._listed([0, 5, 10]) == "0, 5 and 10" and demo._listed(["a"]) == "a"
