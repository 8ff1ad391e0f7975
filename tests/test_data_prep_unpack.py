"""Archives that try to write elsewhere, that are too big, and that are broken."""

import io
import json
import stat
import tarfile
import zipfile

import pytest

from data_prep.corpus import PrepError
from data_prep.unpack import COMPLETE, UnsafeArchive, unpack
from tests.made_corpora import tarred, zipped

GOOD = {"corpus/a.wav": b"a" * 1000, "corpus/deep/b.wav": b"b" * 10}


def save(tmp_path, data, name="archive"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != COMPLETE}


def refused(tmp_path, data, match, **caps):
    """Unpacking must fail with this sentence and leave nothing behind, inside or outside the target."""
    outside = sorted(p.name for p in tmp_path.iterdir())
    path = save(tmp_path, data)
    with pytest.raises(UnsafeArchive, match=match):
        unpack(path, tmp_path / "out", **caps)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted({*outside, "archive"})


@pytest.mark.parametrize("data", [zipped(GOOD), tarred(GOOD), tarred(GOOD, "w"), tarred(GOOD, "w:bz2")])
def test_good_archives(tmp_path, data):
    path = save(tmp_path, data)
    target = unpack(path, tmp_path / "deep" / "out")
    assert tree(target) == GOOD
    assert json.loads((target / COMPLETE).read_text()) == {
        "archive": "archive", "files": 2, "bytes": 1010, "keep": "",
    }  # fmt: skip
    path.unlink()
    assert unpack(path, target) == target  # a second run needs no archive


def test_only_what_is_kept_is_written(tmp_path):
    path = save(tmp_path, zipped(GOOD))
    assert set(tree(unpack(path, tmp_path / "out", keep=r"(^|/)b\.wav$"))) == {"corpus/deep/b.wav"}
    assert set(tree(unpack(path, tmp_path / "out", keep=r"\.wav$"))) == set(GOOD)  # other members were asked for
    with pytest.raises(PrepError, match="holds no file that matches 'nothing'"):
        unpack(path, tmp_path / "other", keep="nothing")
    assert not (tmp_path / "other").exists() and not (tmp_path / "other.unpacking").exists()


@pytest.mark.parametrize("name", ["../evil.wav", "corpus/../../evil.wav", "/etc/evil.wav", "C:/evil.wav", "..\\evil.wav"])
@pytest.mark.parametrize("make", [zipped, tarred])
def test_paths_that_lead_elsewhere(tmp_path, name, make):
    refused(tmp_path, make({**GOOD, name: b"evil"}), "absolute paths, drive letters, backslashes and '..' are refused")


def test_links_and_devices_in_a_tar(tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            member = tarfile.TarInfo("corpus/link.wav")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        refused(tmp_path, buffer.getvalue(), "a link or a device")


def test_a_symbolic_link_in_a_zip(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("corpus/link.wav")
        link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    refused(tmp_path, buffer.getvalue(), "a link or a device")


def test_an_encrypted_member(tmp_path):
    data = bytearray(zipped({"a.wav": b"secret"}))
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags] |= 1
    refused(tmp_path, bytes(data), "encrypted")


def test_the_same_path_twice(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, pytest.warns(UserWarning):
        archive.writestr("a.wav", b"1")
        archive.writestr("a.wav", b"2")
    refused(tmp_path, buffer.getvalue(), "twice")


@pytest.mark.parametrize("make", [zipped, tarred])
def test_caps(tmp_path, make):
    refused(tmp_path, make({f"{i}.wav": b"" for i in range(11)}), "more than 10 files", max_files=10)
    refused(tmp_path, make({"bomb.wav": bytes(3_000_000)}), "unpacks to more than 2.0 MB", max_bytes=2_000_000)


def test_a_zip_that_lies_about_its_sizes_is_counted_as_it_comes_out(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.wav", bytes(5_000_000))
    assert len(buffer.getvalue()) < 10_000
    refused(tmp_path, buffer.getvalue(), "unpacks to more than 1.0 MB", max_bytes=1_000_000)


@pytest.mark.parametrize("data", [zipped(GOOD), tarred(GOOD), tarred(GOOD, "w:bz2"), b"no archive at all"])
def test_damaged_archives(tmp_path, data):
    path = save(tmp_path, data[: int(len(data) * 0.6)])
    with pytest.raises(PrepError, match="is damaged .* Delete it and run again"):
        unpack(path, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["archive"]


def test_a_flipped_bit_is_noticed(tmp_path):
    data = bytearray(zipped({"a.wav": bytes(range(256)) * 20}))
    data[500] ^= 1
    with pytest.raises(PrepError, match="CRC"):
        unpack(save(tmp_path, bytes(data)), tmp_path / "out")


def test_a_folder_that_was_not_unpacked_here_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(PrepError, match="was not unpacked by this program"):
        unpack(save(tmp_path, zipped(GOOD)), tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "mine"


def test_what_a_killed_run_left_is_thrown_away(tmp_path):
    half = tmp_path / "out.unpacking" / "corpus"
    half.mkdir(parents=True)
    (half / "a.wav").write_bytes(b"half")
    (half / "old.wav").write_bytes(b"of another version")
    assert tree(unpack(save(tmp_path, zipped(GOOD)), tmp_path / "out")) == GOOD
    assert not (tmp_path / "out.unpacking").exists()
