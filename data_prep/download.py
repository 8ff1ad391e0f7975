"""Download one archive so that a broken connection costs minutes, not the evening.

    file.zip.part          what has arrived so far; grows, survives a kill, is resumed with an HTTP Range request
    file.zip.part.json     ETag and date of that half, so that a changed file on the server is noticed
    file.zip               appears by rename, and only after size and checksum were right
    checksums.json         the lock file: SHA-256, size and origin of every archive that was accepted

Why not `pooch`: its downloader (1.9) has no Range resume; each retry starts at byte 0, and MUSAN is 11 GB. The layer
below is `requests` plus resume, retry with back-off, and the checks; nothing else.

An archive without a published checksum is accepted on first use: its SHA-256 is printed and kept in the lock file, and
every later run must find the same one.

`GANSE_TF_DATA_URL=http://host:port` replaces the scheme and host of every address and keeps the path: a class can
share one local mirror, and the tests their local server.
"""

import hashlib
import json
import os
import shutil
import time
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from data_prep.corpus import PrepError
from ganse_tf.version import __version__

CHUNK = 1 << 16  # bytes per read
RETRIES = 5  # failures in a row, without one new byte, before giving up
BACK_OFF_S = 1.0  # first pause; doubles each time
LONGEST_PAUSE_S = 60.0
WHOLE_TRIES = 3  # complete downloads with a wrong checksum before giving up
TIMEOUT_S = (10, 60)  # connect, silence between two chunks
USER_AGENT = f"ganse_tf/{__version__} (data_prep)"
BASE_URL = "GANSE_TF_DATA_URL"
LOCK = "checksums.json"


class DownloadError(PrepError):
    """The file could not be fetched."""


class ChecksumError(DownloadError):
    """The file arrived, but it is not the published one."""


class _Again(Exception):
    """This attempt failed; another may not. `pause` is what the server asked for, in seconds."""

    def __init__(self, message, pause=0.0):
        super().__init__(message)
        self.pause = pause


def address(url):
    """`url`, or the same path on the host named by GANSE_TF_DATA_URL."""
    base = os.environ.get(BASE_URL, "")
    if not base:
        return url
    here, there = urlsplit(url), urlsplit(base)
    if not there.scheme or not there.netloc:
        raise PrepError(f"{BASE_URL} is {base!r}; it must look like http://host:port.")
    return urlunsplit((there.scheme, there.netloc, there.path.rstrip("/") + here.path, here.query, ""))


def digests(path, *names):
    """Hex digests of a file, one per hash name, read once."""
    hashes = [hashlib.new(name) for name in names]
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            for each in hashes:
                each.update(block)
    return [each.hexdigest() for each in hashes]


def read_lock(folder):
    """The lock file of a folder of archives as a dict (empty when there is none yet)."""
    path = Path(folder) / LOCK
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def write_text(path, text, sync=True):
    """Write a small file so that it is either the old one or the new one, never half of it.

    `sync` also survives a power cut; a killed process needs only the rename.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.replace(temporary, path)


def check_disk(folder, needed, what):
    """Refuse to start when `needed` bytes do not fit; returns a sentence with the estimate."""
    place = Path(folder).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    sentence = f"{what}: about {size_text(needed)} of disk, {size_text(free)} free"
    if needed > free:
        raise PrepError(
            f"{sentence} in {place}. Free some space, choose another --out, or take fewer --parts."
        )
    return sentence


def size_text(n_bytes):
    """1536000 -> "1.5 MB" (powers of ten, as download pages count)."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000 or unit == "GB":
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000


def fetch(archive, folder, *, progress=None, say=print, back_off=BACK_OFF_S, verify=False):
    """Make sure `folder/archive.name` is there and right; returns its path.

    Args:
        archive: `corpus.Archive`; its addresses are tried in turn.
        folder: where archives and the lock file live.
        progress: callable (name, bytes so far, total bytes or None), or None.
        say: callable that prints one line.
        back_off: first pause in seconds; tests make it short.
        verify: hash a file that is already there again.

    Returns:
        `Path` of the verified archive.

    Raises:
        DownloadError: no address answered (each problem is listed).
        ChecksumError: what arrived is not the published file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archive.name
    if target.is_file():
        known = read_lock(folder).get(archive.name)
        if known is None or verify or known["bytes"] != target.stat().st_size:
            _accept(archive, target, target, folder, say, url="found in the folder")
        return target
    if not archive.urls:
        raise DownloadError(f"{archive.name}: no address is known. Put the file into {folder} and run again.")

    part = folder / (archive.name + ".part")
    failures, wrong, problems = 0, 0, []
    best = part.stat().st_size if part.is_file() else 0
    turn = 0
    while True:
        url = address(archive.urls[turn % len(archive.urls)])
        try:
            _transfer(url, part, archive, progress)
            try:
                _accept(archive, part, target, folder, say, url)
                return target
            except ChecksumError as error:
                _forget(part)
                best, wrong = 0, wrong + 1
                if wrong >= WHOLE_TRIES:
                    raise
                raise _Again(str(error)) from error
        except _Again as problem:
            problems.append(f"{url}: {problem}")
            reached = part.stat().st_size if part.is_file() else 0
            failures = 0 if reached > best else failures + 1
            best = max(best, reached)
            if failures > RETRIES:
                listed = "\n  ".join(dict.fromkeys(problems))
                raise DownloadError(
                    f"{archive.name} could not be downloaded; {RETRIES + 1} attempts in a row failed:\n  {listed}\n"
                    f"What arrived so far is kept in {part}; run the same command again to go on. A copy downloaded "
                    f"by hand can be put at {target}."
                ) from problem
            pause = max(problem.pause, min(LONGEST_PAUSE_S, back_off * 2 ** max(failures - 1, 0)))
            say(f"  {archive.name}: {problem}; again in {pause:.1f} s")
            time.sleep(pause)
            turn += 1


def verify(folder):
    """Hash the archives of a folder again; returns a list of sentences. Archives deleted to save space are no problem."""
    folder = Path(folder)
    return [
        f"{folder / name}: the archive differs from the SHA-256 in {LOCK}."
        for name, facts in read_lock(folder).items()
        if (folder / name).is_file() and digests(folder / name, "sha256")[0] != facts["sha256"]
    ]


def _accept(archive, path, target, folder, say, url):
    """Check size and checksum, give the file its name, write it into the lock file."""
    size = path.stat().st_size
    if archive.size is not None and size != archive.size:
        raise ChecksumError(
            f"{archive.name} has {size} bytes, the published file has {archive.size}. "
            f"Delete {path} and run again; if that repeats, the file on the server has changed."
        )
    md5, sha256 = digests(path, "md5", "sha256")
    for kind, want, have in (("MD5", archive.md5, md5), ("SHA-256", archive.sha256, sha256)):
        if want and want != have:
            raise ChecksumError(
                f"{archive.name} has {kind} {have}, the published file has {want}. "
                f"Delete {path} and run again; if that repeats, the file on the server has changed."
            )
    lock = read_lock(folder)
    before = lock.get(archive.name)
    if before and before["sha256"] != sha256:
        raise ChecksumError(
            f"{archive.name} has SHA-256 {sha256}, but {folder / LOCK} recorded {before['sha256']} on first use. "
            f"Find out which one is right, then delete the file or its entry in {LOCK}."
        )
    published = "published MD5" if archive.md5 else "published SHA-256" if archive.sha256 else ""
    if not published:
        say(f"  {archive.name}: no published checksum is known. SHA-256 {sha256} recorded in {folder / LOCK}")
    if path != target:
        os.replace(path, target)
        _forget(path)
    lock[archive.name] = {"sha256": sha256, "bytes": size, "checked": published or "first use", "url": url}
    write_text(folder / LOCK, json.dumps(lock, indent=1, sort_keys=True) + "\n")


def _forget(part):
    """Remove a half and what we know about it."""
    part.unlink(missing_ok=True)
    _notes(part).unlink(missing_ok=True)


def _notes(part):
    return part.with_name(part.name + ".json")


def _validator(headers):
    """What identifies this version of the file on the server: a strong ETag, else the date, else ""."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _transfer(url, part, archive, progress):
    """Bring `part` to its full length with one request; raises `_Again` when this request did not manage it."""
    requests = _requests()
    have = part.stat().st_size if part.is_file() else 0
    before = json.loads(_notes(part).read_text(encoding="utf-8")) if _notes(part).is_file() else {}
    if archive.size is not None and have > archive.size:
        have = 0
    if have and not (archive.md5 or archive.sha256 or before.get("validator")):
        have = 0  # nothing would tell us if the second half belonged to another file
    headers = {"User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    if have:
        if archive.size is not None and have == archive.size:
            return
        headers["Range"] = f"bytes={have}-"
        if before.get("validator") and before.get("url") == url:
            headers["If-Range"] = before["validator"]
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code == 416:  # Range Not Satisfiable: our half is already as long as the server's file
                if answer.headers.get("Content-Range", "").endswith(f"*/{have}"):
                    return
                _forget(part)
                raise _Again(f"the server refused to go on at byte {have}; from the beginning")
            total, start = _agree(answer, have, archive)
            write_text(_notes(part), json.dumps({"url": url, "validator": _validator(answer.headers)}) + "\n", sync=False)
            done = start
            with open(part, "r+b" if start else "wb") as file:
                file.seek(start)
                file.truncate()
                for block in answer.iter_content(CHUNK):
                    file.write(block)
                    done += len(block)
                    if progress:
                        progress(archive.name, done, total)
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        raise _Again(f"the connection broke ({type(error).__name__})") from error
    if total is not None and done < total:
        raise _Again(f"the server stopped after {done} of {total} bytes")
    if total is not None and done > total:
        _forget(part)
        raise _Again(f"the server sent {done} bytes instead of {total}")


def _agree(answer, have, archive):
    """Read the answer's head; returns (total bytes or None, position at which the body starts)."""
    if answer.status_code not in (200, 206):
        raise _Again(f"HTTP {answer.status_code} {answer.reason}", pause=_retry_after(answer))
    kind = answer.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind == "text/html":
        raise _Again("the server sent a web page instead of the file (log-in or error page)")
    length = answer.headers.get("Content-Length")
    if answer.status_code == 206:
        unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
        span, _, total = rest.partition("/")
        first = span.partition("-")[0]
        if unit != "bytes" or not first.isdigit() or int(first) > have:
            raise _Again(f"the server answered a Range request with Content-Range {rest!r}")
        start = int(first)
        total = int(total) if total.isdigit() else None
    else:  # 200: the server ignores Range, or the file has changed: from the beginning
        start, total = 0, int(length) if length else None
    if archive.size is not None:
        if total is not None and total != archive.size:
            raise _Again(f"the server offers {total} bytes, the published file has {archive.size}")
        total = archive.size
    return total, start


def _retry_after(answer):
    """Seconds the server asks us to wait (number or date), at most LONGEST_PAUSE_S."""
    value = answer.headers.get("Retry-After", "")
    if value.isdigit():
        return min(float(value), LONGEST_PAUSE_S)
    try:
        wait = parsedate_to_datetime(value).timestamp() - time.time()
    except (TypeError, ValueError):
        return 0.0
    return min(max(wait, 0.0), LONGEST_PAUSE_S)


def _requests():
    try:
        import requests
    except ImportError as error:
        raise PrepError("Downloads need the package requests: pip install 'ganse_tf[data]'") from error
    return requests
