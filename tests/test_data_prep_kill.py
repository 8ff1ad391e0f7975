"""Kill -9 at every stage: the same command again gives the same folder, and nothing half-made is taken for whole.

The command runs in a real process against a slow local server; it is killed when its files show that it is in the middle
of the download, of unpacking, or of mixing.
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
import json, os
from data_prep import librispeech, protocols
import dataclasses
librispeech.FACTS.update({part: tuple(facts) for part, facts in json.loads(os.environ["FACTS"]).items()})
protocols.PROTOCOLS["afm"] = dataclasses.replace(protocols.AFM, seconds_of_made_noise=12)
from data_prep.__main__ import app
if __name__ == "__main__":
    app()
"""


class Command:
    """`python driver.py ...` in a process of its own, with the facts of the made-up archive."""

    def __init__(self, folder, server=None, tar=b""):
        self.driver = folder / "driver.py"
        self.driver.write_text(DRIVER)
        root = str(Path(__file__).resolve().parents[1])
        self.environment = {**os.environ, "PYTHONPATH": root, "NO_PROXY": "127.0.0.1", "FACTS": json.dumps(
            {"dev-clean": [len(tar), made.md5(tar)]}
        )}  # fmt: skip
        if server is not None:
            self.environment["GANSE_TF_DATA_URL"] = server.url

    def start(self, *arguments):
        command = [sys.executable, str(self.driver), *map(str, arguments)]
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments):
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        return said

    def kill_when(self, ready, *arguments):
        """Start, wait until `ready()` is true, kill -9; fails when the command ended before."""
        process = self.start(*arguments)
        deadline = time.monotonic() + 120
        while not ready():
            assert process.poll() is None, f"ended too early: {process.communicate()[0]}"
            assert time.monotonic() < deadline, "never got that far"
            time.sleep(0.0005)
        children = _children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        return children


def _children(pid):
    """Process ids of the workers (Linux), or none."""
    try:
        return [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(pid):
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


def count(folder, pattern):
    return sum(1 for _ in Path(folder).glob(pattern))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(server, command, arguments, what an undisturbed run makes)."""
    folder = tmp_path_factory.mktemp("whole")
    # 40 MB of zeros in the archive make unpacking last long enough to be interrupted
    tar = made.tarred(made.librispeech("dev-clean", 4, 8, extra={"LibriSpeech/BOOKS.TXT": bytes(40_000_000)}.items()))
    with Server() as server:
        server.put(ARCHIVE, tar)
        command = Command(folder, server, tar)
        arguments = ("librispeech", "--parts", "dev-clean", "--out")
        command.run(*arguments, folder / "out")
        yield server, command, arguments, tree(folder / "out")


def test_killed_while_downloading(whole, tmp_path):
    server, command, arguments, expected = whole
    out = tmp_path / "out"
    part = out / "archives" / "dev-clean.tar.gz.part"
    size = len(server.files[ARCHIVE])
    server.slow.add(ARCHIVE)
    command.kill_when(lambda: part.exists() and part.stat().st_size > size // 4, *arguments, out)
    server.slow.clear()
    assert unfinished(out) and not (out / "archives" / "dev-clean.tar.gz").exists()
    kept = part.stat().st_size
    assert size // 4 < kept < size
    command.run(*arguments, out)
    assert server.requests(ARCHIVE)[-1] == f"bytes={kept}-"  # went on, did not start again
    assert tree(out) == expected


def test_killed_while_unpacking(whole, tmp_path):
    server, command, arguments, expected = whole
    out = tmp_path / "out"
    scratch = out / "unpacked" / "dev-clean.unpacking"
    command.kill_when(lambda: count(scratch, "LibriSpeech/**/*.flac") >= 3, *arguments, out)
    assert unfinished(out) and scratch.is_dir() and not (out / "unpacked" / "dev-clean").exists()
    before = len(server.log)
    command.run(*arguments, out)
    assert len(server.log) == before  # the archive was whole
    assert tree(out) == expected


def test_killed_while_converting(whole, tmp_path):
    _, command, arguments, expected = whole
    out = tmp_path / "out"
    command.kill_when(lambda: count(out, ".building/rows/*.json") >= 2, *arguments, out)
    assert unfinished(out) and count(out, ".building/rows/*.json") < 32
    command.run(*arguments, out)
    assert tree(out) == expected


def test_killed_while_mixing_with_two_workers(tmp_path):
    command = Command(tmp_path)
    arguments = ("toy", "--protocol", "afm", "--limit", 12, "--out")
    command.run(*arguments, tmp_path / "whole", "--workers", 1)
    out = tmp_path / "out"
    workers = command.kill_when(
        lambda: count(out, ".building/rows/*.json") >= 3, *arguments, out, "--workers", 2
    )
    done = count(out, ".building/rows/*.json")
    assert unfinished(out) and done < 36
    deadline = time.monotonic() + 30
    while any(_alive(pid) for pid in workers):  # orphans must not wait for ever
        assert time.monotonic() < deadline, f"workers {workers} live on"
        time.sleep(0.05)
    said = command.run(*arguments, out, "--workers", 2)
    assert tree(out) == tree(tmp_path / "whole") and build.verify(out) == []
    assert "nothing to do" not in said and "nothing to do" in command.run(*arguments, out)
