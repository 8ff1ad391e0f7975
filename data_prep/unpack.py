"""Unpack an archive from the internet without letting it write anywhere but into one new folder.

Refused, with a sentence: absolute paths, drive letters, `..`, backslashes, symbolic and hard links, devices, the same
path twice, encrypted members, more files or more bytes than the caps allow. A tar is checked again by Python's own
`data` filter where it exists; a zip has no such filter, so the checks here are all there is.

Everything goes into `NAME.unpacking`, then `.complete` is written inside it, then the folder is renamed. A killed run
leaves only the former, which the next run deletes: a folder with the final name is whole.
"""

import json
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from data_prep.corpus import PrepError
from data_prep.download import size_text, write_text

COMPLETE = ".complete"
MAX_FILES = 500_000  # train-other-500, the largest part of LibriSpeech, has 148 688 utterances
MAX_BYTES = 120 * 10**9
BLOCK = 1 << 20


class UnsafeArchive(PrepError):
    """The archive wants to do something an archive of audio has no reason to do."""


def unpack(path, target, *, keep="", max_files=MAX_FILES, max_bytes=MAX_BYTES):
    """Unpack `path` (.zip, .tar, .tar.gz, .tar.bz2) into the new folder `target`; returns `target`.

    Args:
        path: the archive.
        target: folder that does not exist yet; when it exists and is complete (same `keep`), nothing happens.
        keep: regular expression searched in the path of each member; "" keeps all.
        max_files, max_bytes: caps on what may be unpacked.

    Raises:
        UnsafeArchive: see the module's docstring.
        PrepError: the archive is damaged, or `target` exists but was not made by this function.
    """
    path, target = Path(path), Path(target)
    if (target / COMPLETE).is_file():
        if json.loads((target / COMPLETE).read_text(encoding="utf-8")).get("keep") == keep:
            return target
        shutil.rmtree(target)  # ours, but other members were asked for
    if target.exists():
        raise PrepError(
            f"{target} exists, but has no {COMPLETE} file: it was not unpacked by this program. Move it away or delete "
            f"it, then run again."
        )
    scratch = target.with_name(target.name + ".unpacking")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    budget = _Budget(path.name, max_files, max_bytes)
    try:
        if zipfile.is_zipfile(path):
            _unpack_zip(path, scratch, re.compile(keep), budget)
        else:
            _unpack_tar(path, scratch, re.compile(keep), budget)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error) as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise PrepError(f"{path} is damaged ({error}). Delete it and run again to download it anew.") from error
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if not budget.files:
        shutil.rmtree(scratch, ignore_errors=True)
        raise PrepError(f"{path} holds no file that matches {keep or 'anything'!r}: is it the right archive?")
    facts = {"archive": path.name, "files": budget.files, "bytes": budget.bytes, "keep": keep}
    write_text(scratch / COMPLETE, json.dumps(facts) + "\n")
    os.replace(scratch, target)
    return target


class _Budget:
    """Counts files and bytes against the caps, and refuses a path that comes twice."""

    def __init__(self, name, max_files, max_bytes):
        self.name, self.max_files, self.max_bytes = name, max_files, max_bytes
        self.files, self.bytes, self.paths = 0, 0, set()

    def file(self, path):
        self.files += 1
        if path in self.paths:
            raise UnsafeArchive(f"{self.name} holds {path!r} twice; refusing to unpack it.")
        self.paths.add(path)
        if self.files > self.max_files:
            raise UnsafeArchive(f"{self.name} holds more than {self.max_files} files; refusing to unpack it.")

    def grow(self, n_bytes):
        self.bytes += n_bytes
        if self.bytes > self.max_bytes:
            raise UnsafeArchive(
                f"{self.name} unpacks to more than {size_text(self.max_bytes)}; refusing to go on (is it a zip bomb?)."
            )


def safe_path(name, archive):
    """The relative path a member may have, as a `PurePosixPath`; raises `UnsafeArchive` otherwise."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise UnsafeArchive(
            f"{archive} holds the path {name!r}: absolute paths, drive letters, backslashes and '..' are refused."
        )
    return path


def _copy(source, path, budget):
    """Write one member, counting what really comes out rather than what its header claims."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:
        while block := source.read(BLOCK):
            budget.grow(len(block))
            file.write(block)


def _unpack_zip(path, folder, keep, budget):
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            relative = safe_path(member.filename, path.name)
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UnsafeArchive(
                    f"{path.name} holds {member.filename!r}, which is a link or a device; only files and folders "
                    f"are unpacked."
                )
            if member.flag_bits & 1:
                raise UnsafeArchive(f"{path.name} holds {member.filename!r}, which is encrypted; refusing it.")
            if member.is_dir() or not keep.search(member.filename):
                continue
            budget.file(str(relative))
            with archive.open(member) as source:
                _copy(source, folder / relative, budget)


def _unpack_tar(path, folder, keep, budget):
    with tarfile.open(path, "r|*") as archive:  # as a stream: one pass, also for 30 GB of gzip
        for member in archive:
            relative = safe_path(member.name, path.name)
            if not (member.isreg() or member.isdir()):
                raise UnsafeArchive(
                    f"{path.name} holds {member.name!r}, which is a link or a device; only files and folders are "
                    f"unpacked."
                )
            if hasattr(tarfile, "data_filter"):
                try:
                    tarfile.data_filter(member, str(folder))
                except tarfile.FilterError as error:
                    raise UnsafeArchive(f"{path.name}: {error}; refusing to unpack it.") from error
            if member.isdir() or not keep.search(member.name):
                continue
            budget.file(str(relative))
            _copy(archive.extractfile(member), folder / relative, budget)
