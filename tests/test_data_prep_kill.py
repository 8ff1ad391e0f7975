"""Kill -9 at every stage: the same command again gives the same folder, and nothing half-made is taken for whole.

The command runs in a process of its own. The driver below lets it send itself SIGKILL, which no program can catch, in the
middle of the download, of a file being unpacked, of a file being written, or of mixing with two workers.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data_prep import build
from tests import made_corpora as made
from tests.misbehaving_server import Server

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kill -9 is a POSIX signal")

ARCHIVE = "/resources/12/dev-clean.tar.gz"
DRIVER = """
import dataclasses, json, os, signal, sys
from data_prep import build, librispeech, protocols, unpack
from data_prep import __main__ as command

def die():
    folder = f"/proc/self/task/{os.getpid()}/children"
    print("workers:", open(folder).read() if os.path.exists(folder) else "", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

class Bars(command.Bars):
    def step(self, what, done, total):
        if STAGE == "download" and what.endswith(".tar.gz") and done > total // 4 or STAGE == "mix" and done == 5:
            die()

def copy(source, path, budget, plain=unpack._copy):
    budget.die_after = getattr(budget, "die_after", 4) - 1
    if STAGE == "unpack" and budget.die_after == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb", 0) as file:
            file.write(source.read(100))
            die()
    plain(source, path, budget)

def replace(source, target, plain=os.replace, counted=[]):
    if STAGE == "write" and str(target).endswith(".wav"):
        counted.append(target)
        if len(counted) == 6:
            die()
    plain(source, target)

STAGE = os.environ.get("STAGE", "")
librispeech.FACTS["dev-clean"] = tuple(json.loads(os.environ["FACTS"]))
protocols.PROTOCOLS["afm"] = dataclasses.replace(protocols.AFM, seconds_of_made_noise=12)
if __name__ == "__main__":
    command.Bars, unpack._copy, build.os.replace = Bars, copy, replace
    command.app()
"""


class Command:
    """`python driver.py ...` in a process of its own, with the facts of the made-up archive."""

    def __init__(self, folder, server=None, tar=b""):
        self.driver = folder / "driver.py"
        self.driver.write_text(DRIVER)
        root = str(Path(__file__).resolve().parents[1])
        facts = json.dumps([len(tar), made.md5(tar)])
        self.environment = {**os.environ, "PYTHONPATH": root, "NO_PROXY": "127.0.0.1", "FACTS": facts}
        if server is not None:
            self.environment["GANSE_TF_DATA_URL"] = server.url

    def run(self, *arguments, stage=""):
        """Run to the end, or to the kill at `stage`; returns what was printed."""
        command = [sys.executable, str(self.driver), *map(str, arguments)]
        with subprocess.Popen(
            command, env={**self.environment, "STAGE": stage}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process:
            said = process.stdout.read() if not stage else "".join(iter(process.stdout.readline, ""))
        assert process.returncode == (-signal.SIGKILL if stage else 0), said
        return said


def alive(pid):
    """False for a process that is gone or a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def tree(folder):
    """Every file of a finished folder, but for the address in the lock file and the lock."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file() and path.name != ".lock":
            data = path.read_bytes()
            if path.name == "checksums.json":
                data = {name: facts["sha256"] for name, facts in json.loads(data).items()}
            found[path.relative_to(folder).as_posix()] = data
    return found


def unfinished(folder):
    """Nothing here says that it is whole."""
    return not any((folder / name).exists() for name in ("prepared.json", "manifest.csv", "audio"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(server, command, arguments, what an undisturbed run makes)."""
    folder = tmp_path_factory.mktemp("whole")
    tar = made.tarred(made.librispeech("dev-clean", 4, 4))
    with Server() as server:
        server.put(ARCHIVE, tar)
        command = Command(folder, server, tar)
        arguments = ("librispeech", "--parts", "dev-clean", "--out")
        command.run(*arguments, folder / "out")
        yield server, command, arguments, tree(folder / "out")


def test_killed_while_downloading(whole, tmp_path):
    server, command, arguments, expected = whole
    out = tmp_path / "out"
    command.run(*arguments, out, stage="download")
    half, size = out / "archives" / "dev-clean.tar.gz.part", len(server.files[ARCHIVE])
    assert unfinished(out) and not (out / "archives" / "dev-clean.tar.gz").exists()
    kept = half.stat().st_size
    assert 0 < kept < size
    command.run(*arguments, out)
    assert server.requests(ARCHIVE)[-1] == f"bytes={kept}-"  # went on, did not start again
    assert tree(out) == expected


def test_killed_while_unpacking(whole, tmp_path):
    server, command, arguments, expected = whole
    out = tmp_path / "out"
    command.run(*arguments, out, stage="unpack")
    assert unfinished(out) and not (out / "unpacked" / "dev-clean").exists()
    left = [p for p in (out / "unpacked" / "dev-clean.unpacking").rglob("*") if p.is_file()]
    assert len(left) == 4 and any(p.stat().st_size == 100 for p in left)  # the fourth is half a file
    before = len(server.log)
    command.run(*arguments, out)
    assert len(server.log) == before  # the archive was whole
    assert tree(out) == expected


def test_killed_while_writing_a_file(whole, tmp_path):
    _, command, arguments, expected = whole
    out = tmp_path / "out"
    command.run(*arguments, out, stage="write")
    assert unfinished(out) and len(list((out / ".building" / "rows").glob("*.json"))) == 5
    assert len(list((out / ".building" / "audio").rglob(".*.wav.*"))) == 1  # written, not renamed
    command.run(*arguments, out)
    assert tree(out) == expected


def test_killed_while_mixing_with_two_workers(tmp_path):
    command = Command(tmp_path)
    arguments = ("toy", "--protocol", "afm", "--limit", 6, "--out")
    command.run(*arguments, tmp_path / "whole", "--workers", 1)
    out = tmp_path / "out"
    said = command.run(*arguments, out, "--workers", 2, stage="mix")
    workers = [int(pid) for pid in said.split("workers:")[1].split()]
    assert unfinished(out) and (out / ".building" / "rows").is_dir()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in workers):  # orphans must not wait for work for ever
        assert time.monotonic() < deadline, f"workers {workers} live on"
        time.sleep(0.05)
    command.run(*arguments, out, "--workers", 2)
    assert tree(out) == tree(tmp_path / "whole") and build.verify(out) == []
