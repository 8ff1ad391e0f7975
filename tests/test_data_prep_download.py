"""Downloads from a local server that breaks off, ignores Range, fails, lies and recovers; no other network."""

import hashlib
import json
import shutil
from collections import namedtuple
from email.utils import formatdate

import numpy as np
import pytest

from data_prep import download
from data_prep.corpus import Archive, PrepError
from tests.misbehaving_server import Server

DATA = np.random.default_rng(0).bytes(300_000)
MD5 = hashlib.md5(DATA).hexdigest()
PATH = "/files/a.zip"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        server.put(PATH, DATA)
        monkeypatch.setenv(download.BASE_URL, server.url)
        yield server


def archive(**facts):
    """The file as its publisher describes it; the host is replaced by GANSE_TF_DATA_URL."""
    return Archive("a.zip", ("https://example.org/files/a.zip",), **{"size": len(DATA), "md5": MD5, **facts})


def fetch(folder, what=None, **options):
    said = []
    path = download.fetch(what or archive(), folder, back_off=0.01, say=said.append, **options)
    return path, "\n".join(said)


def test_a_good_file_is_checked_renamed_and_recorded(server, tmp_path):
    steps = []
    path, _ = fetch(tmp_path, progress=lambda name, done, total: steps.append((name, done, total)))
    assert path == tmp_path / "a.zip" and path.read_bytes() == DATA
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "checksums.json"]
    entry = json.loads((tmp_path / "checksums.json").read_text())["a.zip"]
    assert entry == {
        "sha256": hashlib.sha256(DATA).hexdigest(), "bytes": len(DATA), "checked": "published MD5",
        "url": f"{server.url}{PATH}",
    }  # fmt: skip
    assert steps[-1] == ("a.zip", len(DATA), len(DATA)) and len(steps) > 3


def test_a_second_run_asks_for_nothing(server, tmp_path):
    fetch(tmp_path)
    fetch(tmp_path)
    fetch(tmp_path, verify=True)
    assert len(server.log) == 1


def test_a_dropped_connection_is_resumed_with_range(server, tmp_path):
    server.fail(PATH, "drop", "drop")
    path, said = fetch(tmp_path)
    assert path.read_bytes() == DATA
    asked = server.requests(PATH)
    starts = [int(r.removeprefix("bytes=").rstrip("-")) for r in asked[1:]]
    assert asked[0] is None and len(starts) == 2 and 0 < starts[0] < starts[1] < len(DATA)
    assert "connection broke" in said or "stopped after" in said


def test_a_server_that_ignores_range_is_read_from_the_beginning(server, tmp_path):
    server.fail(PATH, "drop", "ignore range")
    path, _ = fetch(tmp_path)
    assert path.read_bytes() == DATA
    assert server.requests(PATH)[1].startswith("bytes=")


def test_not_found_and_unavailable_then_recovery(server, tmp_path):
    server.fail(PATH, "404", "503", "429")
    path, said = fetch(tmp_path)
    assert path.read_bytes() == DATA and "HTTP 404" in said and "HTTP 503" in said and "HTTP 429" in said


@pytest.mark.parametrize("answer", ["503 7", f"503 {formatdate(4102444800, usegmt=True)}"])
def test_retry_after_is_obeyed_up_to_a_minute(server, tmp_path, monkeypatch, answer):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.fail(PATH, answer)
    fetch(tmp_path)
    assert waits == [7.0 if answer.endswith(" 7") else download.LONGEST_PAUSE_S]


def test_back_off_doubles_while_nothing_arrives(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(download.time, "sleep", waits.append)
    server.fail(PATH, "503", "503", "503", "503")
    download.fetch(archive(), tmp_path, say=lambda _: None)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_the_next_address_is_tried(server, tmp_path):
    what = Archive("a.zip", ("https://example.org/gone/a.zip", "https://example.org/files/a.zip"), len(DATA), MD5)
    path, said = fetch(tmp_path, what)
    assert path.read_bytes() == DATA and "HTTP 404" in said
    assert [where for where, _ in server.log] == ["/gone/a.zip", PATH]


def test_giving_up_names_every_problem_and_keeps_the_half(server, tmp_path):
    server.fail(PATH, "drop", *["503"] * 20)
    with pytest.raises(download.DownloadError, match="6 attempts in a row failed") as caught:
        fetch(tmp_path)
    assert "HTTP 503" in str(caught.value) and "run the same command again" in str(caught.value)
    assert not (tmp_path / "a.zip").exists() and (tmp_path / "a.zip.part").stat().st_size > 0
    server.faults.clear()
    path, _ = fetch(tmp_path)
    assert path.read_bytes() == DATA and server.requests(PATH)[-1].startswith("bytes=")


def test_progress_resets_the_count_of_failures(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "CHUNK", 256)
    server.fail(PATH, *["drop"] * (download.RETRIES + 3))
    path, _ = fetch(tmp_path)
    assert path.read_bytes() == DATA


def test_a_wrong_checksum_is_never_accepted(server, tmp_path):
    server.fail(PATH, "wrong")
    path, said = fetch(tmp_path)  # the second copy is right
    assert path.read_bytes() == DATA and "has MD5" in said
    path.unlink()
    server.fail(PATH, *["wrong"] * 10)
    with pytest.raises(download.ChecksumError, match=f"the published file has {MD5}"):
        fetch(tmp_path)
    assert not path.exists() and not (tmp_path / "a.zip.part").exists()


def test_sha256_is_checked_too(server, tmp_path):
    with pytest.raises(download.ChecksumError, match="SHA-256"):
        fetch(tmp_path, archive(md5="", sha256="0" * 64))


def test_a_truncated_file_is_not_taken_for_whole(server, tmp_path):
    server.fail(PATH, *["truncated"] * 20)
    with pytest.raises(download.DownloadError, match=f"offers {len(DATA) // 2} bytes, the published file has {len(DATA)}"):
        fetch(tmp_path)
    assert not (tmp_path / "a.zip").exists()
    server.faults.clear()
    server.fail(PATH, *["truncated"] * 20)
    with pytest.raises(download.ChecksumError, match="MD5"):
        fetch(tmp_path, archive(size=None))


def test_a_web_page_is_not_an_archive(server, tmp_path):
    server.fail(PATH, *["html"] * 20)
    with pytest.raises(download.DownloadError, match="web page instead of the file"):
        fetch(tmp_path)


def test_without_a_published_checksum_the_first_use_is_recorded_and_binding(server, tmp_path):
    unknown = archive(md5="", size=None)
    sha256 = hashlib.sha256(DATA).hexdigest()
    path, said = fetch(tmp_path, unknown)
    assert f"no published checksum is known. SHA-256 {sha256}" in said
    assert json.loads((tmp_path / "checksums.json").read_text())["a.zip"]["checked"] == "first use"
    path.write_bytes(DATA[::-1])
    with pytest.raises(download.ChecksumError, match="recorded .* on first use"):
        fetch(tmp_path, unknown, verify=True)


def test_a_file_that_changed_between_the_halves_is_read_anew(server, tmp_path):
    unknown = archive(md5="", size=None)
    server.fail(PATH, "drop", *["503"] * 20)
    with pytest.raises(download.DownloadError):
        fetch(tmp_path, unknown)
    server.faults.clear()
    server.put(PATH, DATA[::-1])
    path, _ = fetch(tmp_path, unknown)
    assert path.read_bytes() == DATA[::-1]


def test_without_validator_and_checksum_a_half_is_not_trusted(server, tmp_path):
    unknown = archive(md5="", size=None)
    server.fail(PATH, "no etag", "no etag")
    (tmp_path / "a.zip.part").write_bytes(b"who knows")
    path, _ = fetch(tmp_path, unknown)
    assert path.read_bytes() == DATA and server.requests(PATH) == [None]


def test_a_half_that_is_whole_or_too_long(server, tmp_path):
    (tmp_path / "a.zip.part").write_bytes(DATA)
    path, _ = fetch(tmp_path)
    assert path.read_bytes() == DATA and server.log == []
    path.unlink()
    (tmp_path / "a.zip.part").write_bytes(DATA + b"more")
    assert fetch(tmp_path)[0].read_bytes() == DATA
    (tmp_path / "a.zip").unlink()
    (tmp_path / "a.zip.part").write_bytes(DATA)
    assert fetch(tmp_path, archive(size=None))[0].read_bytes() == DATA  # the server says 416: there is no more
    assert server.requests(PATH)[-1] == f"bytes={len(DATA)}-"


def test_a_file_put_there_by_hand_is_checked(tmp_path):
    (tmp_path / "a.zip").write_bytes(DATA[:-1])
    with pytest.raises(download.ChecksumError, match=f"{len(DATA) - 1} bytes, the published file has {len(DATA)}"):
        fetch(tmp_path)
    (tmp_path / "a.zip").write_bytes(DATA)
    assert fetch(tmp_path)[0].read_bytes() == DATA


def test_a_file_without_address_must_be_brought(tmp_path):
    with pytest.raises(download.DownloadError, match="Put the file into"):
        download.fetch(Archive("logs.zip", ()), tmp_path)


def test_the_disk_estimate_refuses_before_the_first_byte(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1_000_000))
    assert download.check_disk(tmp_path / "not" / "yet", 900_000, "corpus") == "corpus: about 900.0 kB of disk, 1.0 MB free"
    with pytest.raises(PrepError, match="about 11.1 GB of disk, 1.0 MB free .* choose another --out"):
        download.check_disk(tmp_path, 11_086_114_085, "musan")


def test_the_base_url_keeps_path_and_query(monkeypatch):
    monkeypatch.setenv(download.BASE_URL, "http://127.0.0.1:8000/mirror/")
    assert download.address("https://a.org/x/y.zip?sequence=2") == "http://127.0.0.1:8000/mirror/x/y.zip?sequence=2"
    monkeypatch.setenv(download.BASE_URL, "127.0.0.1")
    with pytest.raises(PrepError, match="must look like http://host:port"):
        download.address("https://a.org/x")
    monkeypatch.delenv(download.BASE_URL)
    assert download.address("https://a.org/x") == "https://a.org/x"


def test_verify_finds_a_changed_archive(server, tmp_path):
    path, _ = fetch(tmp_path)
    assert download.verify(tmp_path) == []
    path.write_bytes(b"0" + DATA[1:])
    assert len(download.verify(tmp_path)) == 1 and "differs" in download.verify(tmp_path)[0]
    path.unlink()
    assert download.verify(tmp_path) == []
