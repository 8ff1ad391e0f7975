"""check_setup: one line per question, in words; the versions it asks for are those of setup.cfg."""

import configparser
import re
import sys

import pytest

import ganse_tf
from ganse_tf import setup_check
from tests.conftest import ROOT


def test_minimum_versions_are_those_of_setup_cfg():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    required = dict(line.split(">=") for line in config["options"]["install_requires"].split())
    assert setup_check.MINIMUM == required
    assert config["options"]["python_requires"] == ">={}.{}".format(*setup_check.PYTHON[0])


def test_every_line_has_a_status_in_words(capsys):
    ganse_tf.check_setup()
    *lines, verdict = capsys.readouterr().out.splitlines()
    assert all(re.match(r"(ok  |note|FIX )  \S", line) for line in lines)
    text = "\n".join(lines)
    words = f"ganse_tf {ganse_tf.__version__}", "Python 3.", "device: ", "disk: ", "released weights: "
    for word in (*setup_check.MINIMUM, *words):
        assert word in text
    assert verdict == "Ready."


def test_missing_and_old_packages_are_fixed_by_a_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "pesq", None)  # import raises ImportError
    status, line = setup_check._package("pesq", "0.0.4")
    assert status == "FIX" and "pip install pesq (it is compiled: Linux needs gcc" in line
    status, line = setup_check._package("numpy", "99.1")
    assert status == "FIX" and "is too old: pip install -U 'numpy>=99.1'" in line


@pytest.mark.parametrize("version, status", [((3, 10), "FIX"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "note")])
def test_python_versions(monkeypatch, version, status):
    monkeypatch.setattr(setup_check.sys, "version_info", (*version, 0))
    assert setup_check._python()[0] == status


def test_a_broken_machine_is_not_called_ready(monkeypatch, capsys):
    monkeypatch.setattr(setup_check, "findings", lambda: [("ok", "a"), ("FIX", "b"), ("FIX", "c")])
    ganse_tf.check_setup()
    assert capsys.readouterr().out.splitlines()[-1] == "2 things to fix, see above."


def test_version_numbers_are_compared_as_numbers():
    assert setup_check._numbers("2.16.1rc0") == (2, 16, 1)
    assert setup_check._numbers("2.9") < setup_check._numbers("2.16")
