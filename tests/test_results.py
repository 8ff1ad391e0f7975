"""results/: the README says what the CSVs say, the page holds everything it needs, scoring repeats only what has changed."""

import base64
import csv
import io
import re

import numpy as np
import pytest
import soundfile

import ganse_tf
from ganse_tf import data, presets, scoring
from ganse_tf.downstream import senone
from results import make, page, papers, rtf, score, tasks
from tests.test_demo import Reader

README = (make.HERE / "README.md").read_text(encoding="utf-8")
PAGE = page.PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def results():
    return make.load()


@pytest.fixture(scope="module")
def reader():
    return Reader(PAGE)


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_the_readme_is_what_the_csvs_give():
    assert make.readme() == README, "results/README.md is old: run python -m results.make"


def test_every_mean_of_the_readme_can_be_computed_from_a_csv(results):
    """Independent of make.table: plain means of the columns, cell by cell."""
    for found in results:
        section = README.partition(f"All measures of the {found.title}")[2].partition("\n\n##")[0]
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
        columns, rows = lines[0], {cells[0].strip("`"): cells for cells in lines[2:]}
        assert set(rows) == set(found.tables) and columns[2:11] == [scoring.LABELS[m][0] for m in score.METRICS]
        for row, cells in rows.items():
            with open(score.csv_path(found.label, row), newline="", encoding="utf-8") as file:
                scores = list(csv.DictReader(file))
            assert len(scores) == found.files
            for metric, cell in zip(score.METRICS, cells[2:]):
                mean = np.nanmean([float(line[metric]) for line in scores])
                assert float(cell) == pytest.approx(mean, abs=0.0051), (row, metric)


def test_the_noisy_rows_are_the_known_ones(results):
    """The excerpt's noisy input as it was measured independently of this folder."""
    for found in results:
        assert list(found.tables)[0] == score.NOISY
        if found.label == "vbd":
            means = found.tables[score.NOISY].means()
            assert means["pesq_wb"] == pytest.approx(1.80, abs=0.005) and means["si_sdr"] == pytest.approx(6.39, abs=0.005)


def test_released_presets_are_scored(results):
    for found in results:
        for name in presets.names():
            known = found.facts.get(name, {}).get("version")
            assert known in (presets.cards()[name]["sha256"], None), f"{name} has new weights: run python -m results.score"


def test_d_off_and_d_on_stand_side_by_side():
    metrics = ("pesq_wb", "stoi", "si_sdr")

    def table(*values):
        rows = [{"name": str(i), "sample_rate": 16000, "seconds": 1.0, **dict(zip(metrics, v)), "failures": {}}
                for i, v in enumerate(values)]  # fmt: skip
        return scoring.ScoreTable(rows, metrics)

    facts = {"noisy": {}, "fsegan": {"class": "FSEGAN"}, "fsegan_d_off": {"class": "FSEGAN"},
             "segan_tiny": {"class": "SEGAN"}}  # fmt: skip
    tables = {"noisy": table((1.0, 0.8, 5.0), (1.2, 0.9, 7.0)), "fsegan": table((1.5, 0.7, 9.0), (1.7, 0.8, 8.0)),
              "fsegan_d_off": table((1.4, 0.7, 9.0), (1.4, 0.8, 9.0)),
              "segan_tiny": table((1.0, 0.9, 9.0), (1.1, 0.9, 9.0))}  # fmt: skip
    results = make.Results("toy", "t", "m", 2, facts, tables)
    assert results.systems() == ["segan_tiny", "fsegan"]  # in the order of the papers
    rows = {row[0]: row[1:] for row in make.side_by_side(results)[1]}
    assert rows["noisy"] == ["", "1.10", "0.850", "6.00", "", "", ""]
    assert rows["`fsegan`"] == ["features", "1.40", "0.750", "9.00", "1.60", "0.750", "8.50"]
    assert rows["`segan_tiny`"] == ["speech", "n/a", "n/a", "n/a", "1.05", "0.900", "9.00"]
    mean, low, high = make.difference(results, "fsegan")["pesq_wb"]
    assert mean == pytest.approx(0.2) and low == pytest.approx(0.1) and high == pytest.approx(0.3)
    assert [row[0] for row in make.what_d_changes(results)[1]] == ["`fsegan`"]
    assert make.below_noisy(results) == ["- `segan_tiny`: PESQ-WB 1.05 < 1.10"]  # features are no verdict
    gains = {line[1]: line for line in make.on_voicebank(results)[1]}
    assert gains["**ours:** `segan_tiny`"][3] == "1.05" and gains["SEGAN"][3] == "2.16"


def test_the_papers_rows_name_a_source_and_a_known_class():
    known = {row["class"] for row in make.catalogue.papers()} | set(make.catalogue.ganse_tf._MODELS)
    assert all(r.source and r.scores and r.model in known for r in papers.ON_VOICEBANK)
    for name, measure, unprocessed, _, on, source in papers.ELSEWHERE:
        assert name in known and bool(source) == bool(on) == bool(unprocessed) == ("no numbers" not in measure)
    assert {r.model for r in papers.ON_VOICEBANK} | {e[0] for e in papers.ELSEWHERE} == set(make.catalogue.ganse_tf._MODELS)


# ---- scoring ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder of scores and one short file per set, scored with two quick rows."""
    monkeypatch.setattr(score, "FOLDER", tmp_path)
    monkeypatch.setattr(score, "INDEX", tmp_path / "index.json")
    monkeypatch.setattr(score, "METRICS", ("si_sdr",))
    monkeypatch.setattr(score, "TOY", dict(split="test", n=1, snr_db=5, seed=0))
    monkeypatch.setattr(score, "rows", lambda: {"noisy": "input", "Wiener": "1"})
    return tmp_path


def test_only_what_changed_is_scored_again(folder, monkeypatch, capsys):
    score.main([])
    assert "2 of 2 rows to score: noisy, Wiener" in capsys.readouterr().out
    first = score.csv_path("toy", "noisy").read_bytes()
    score.main([])
    assert "0 of 2 rows to score" in capsys.readouterr().out
    monkeypatch.setattr(score, "rows", lambda: {"noisy": "input", "Wiener": "2", "log-MMSE": "1"})
    score.main([])
    assert "2 of 3 rows to score: Wiener, log-MMSE" in capsys.readouterr().out
    assert score.csv_path("toy", "noisy").read_bytes() == first
    monkeypatch.setattr(score, "TOY", dict(split="test", n=1, snr_db=10, seed=0))  # another test set: everything is old
    score.main([])
    out = capsys.readouterr().out
    assert "not those scored before" in out and "3 of 3 rows" in out
    monkeypatch.setattr(score, "rows", lambda: {"noisy": "input"})
    score.main([])
    assert "Wiener: no longer released; removed" in capsys.readouterr().out and not score.csv_path("toy", "Wiener").exists()
    assert list(score.index()["toy"]["rows"]) == ["noisy"]


def test_a_folder_of_pairs_gets_its_own_label(folder, tmp_path, capsys):
    pair = data.toy_pairs("test", n=1)[0]
    for side in ("noisy", "clean"):
        (tmp_path / "pairs" / side).mkdir(parents=True)
        soundfile.write(tmp_path / "pairs" / side / "a.wav", getattr(pair, side), 16000)
    score.main(["--pairs", str(tmp_path / "pairs"), "--label", "vbd"])
    entry = score.index()["vbd"]
    assert entry["files"] == 1 and str(tmp_path) not in score.INDEX.read_text()
    for wrong in (["--pairs", "x"], ["--label", "vbd"], ["--pairs", "x", "--label", "toy"], ["no_such_row"]):
        with pytest.raises(SystemExit):
            score.main(wrong)
    err = capsys.readouterr().err
    assert "--pairs FOLDER --label vbd" in err and "there is no row no_such_row; rows: noisy, Wiener" in err


@pytest.mark.parametrize("model", [ganse_tf.FSEGAN.tiny(), ganse_tf.AFM.tiny()], ids=["FSEGAN", "AFM"])
def test_features_that_are_not_changed_keep_their_error(model, monkeypatch):
    pairs = data.toy_pairs("test", n=2, snr_db=5)
    loaded = [(p.name, p.noisy, p.clean, p.sample_rate) for p in pairs]
    if isinstance(model, ganse_tf.FSEGAN):
        monkeypatch.setattr(model, "enhance_features", lambda features: features)
    else:
        monkeypatch.setattr(model, "map_features", lambda wav: senone.lfb(wav, model.sample_rate))
    before, after = (tasks.means(values) for values in tasks.mapping(model, loaded).values())
    assert before == after and next(iter(before.values())) > 0.1
    clean = [(name, c, c, rate) for name, _, c, rate in loaded]
    assert set(tasks.means(tasks.mapping(model, clean)["noisy"]).values()) == {0.0}


def test_an_untrained_post_filter_sharpens_nothing():  # its last layer starts at zero
    pair = data.toy_pairs("test", n=1)[0]
    found = tasks.sharpening(ganse_tf.GANPostfilter.tiny(), [(pair.name, pair.noisy, pair.clean, pair.sample_rate)])
    assert tasks.means(found["over-smoothed"]) == pytest.approx(tasks.means(found["sharpened"]), rel=1e-3)
    assert 0 < found["over-smoothed"]["variance ratio"][0] < 1


def test_the_cards_tell_of_the_own_tasks():
    for name, card in presets.cards().items():
        if card["class"].rpartition(".")[2] in tasks.TASKS:
            assert f"own task, {score.SETS['toy']}" in card["scores"], f"python -m results.tasks: {name}"


def test_a_real_time_factor_is_seconds_per_second():
    calls = []
    factor = rtf.measure(lambda wav, rate: calls.append(len(wav)), np.zeros(16000), 16000)
    assert len(calls) == rtf.REPEATS + 1 and 0 < factor < 0.1


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_from_outside(reader):
    assert reader.open == []
    for tag, attrs in reader.tags:
        for name in ("src", "href", "action", "poster", "srcset"):
            target = attrs.get(name, "data:,")
            assert target.startswith(("data:", "#")), f"<{tag} {name}={target[:60]}>"
    assert not re.search(r"url\((?!['\"]?data:)|@import|https?://|fetch\(|XMLHttpRequest", PAGE)
    assert page.PAGE.stat().st_size <= page.PAGE_BYTES


def test_every_player_plays_the_length_of_a_toy_utterance(reader):
    lengths = {len(p.clean) for p in page.chosen(data.toy_pairs(**score.TOY))}
    ids = {attrs["id"] for _, attrs in reader.tags if "id" in attrs}
    players = reader.all("audio")
    assert players and len(reader.all("img")) == len(players)
    for attrs in players:
        assert "controls" in attrs and attrs["aria-labelledby"] in ids
    for attrs in players[:2] + players[-2:]:
        wav, rate = soundfile.read(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert rate == 16000 and len(wav) in lengths and np.abs(wav).max() > 0.01


def test_scores_under_the_players_are_lines_of_the_csvs(reader, results):
    toy = next(found for found in results if found.label == "toy")
    words = " ".join(" ".join(reader.words).split())
    names = re.findall(r"\([\d.]+ s, (\w+)\)", words)
    assert 1 <= len(names) <= len(page.KINDS)
    for name in names:
        line = [row["name"] for row in toy.tables[score.NOISY].rows].index(name)
        for row in (score.NOISY, "Wiener"):
            assert page.facts(toy, row, line) in words
    on_page = set(re.findall(r'<h4 id="0-([^"]+)">', PAGE)) - {page.CLEAN}
    assert on_page <= {row.replace(" ", "-") for row in toy.tables} and score.NOISY in on_page


def test_the_page_can_be_used_with_keyboard_and_reader(reader):
    levels = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels.count(1) == 1 and levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:]))
    ids = [attrs["id"] for _, attrs in reader.tags if "id" in attrs]
    assert len(ids) == len(set(ids)) and ":focus-visible" in PAGE and reader.all("html")[0]["lang"] == "en"
    radios = [attrs for attrs in reader.all("input") if attrs["type"] == "radio"]
    sections = [attrs["id"] for attrs in reader.all("section") if attrs.get("class") == "file"]
    assert [attrs["value"] for attrs in radios] == sections and sum("checked" in attrs for attrs in radios) == 1
    assert all(len(attrs["alt"]) > 40 for attrs in reader.all("img"))
    for _, attrs in reader.tags:
        assert attrs.get("aria-labelledby", ids[0]) in ids
