"""Is this machine ready? `ganse_tf.check_setup()` answers with one line per question and says how to fix what is missing."""

import importlib
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

from ganse_tf.version import __version__

MINIMUM = {  # as in setup.cfg
    "tensorflow": "2.16", "keras": "3.8", "numpy": "1.26", "scipy": "1.11", "librosa": "0.10", "soundfile": "0.12",
    "soxr": "0.3.7", "matplotlib": "3.7", "pesq": "0.0.4", "pystoi": "0.4", "typer": "0.12", "rich": "13",
}  # fmt: skip
PYTHON = ((3, 11), (3, 13))  # oldest and newest that the tests run on
FREE_DISK_GB = 5  # the 16 kHz copy of VoiceBank+DEMAND is a download of 2.3 GB, unpacked beside it
FIXES = {
    "pesq": "pip install pesq (it is compiled: Linux needs gcc, macOS xcode-select --install, Windows the C++ Build Tools)"
}


def check_setup():
    """Print what is installed and what the machine has: "ok", "note" (works, but) or "FIX" (does not work yet).

    Example:
        >>> ganse_tf.check_setup()  # doctest: +SKIP
        ok    ganse_tf 0.1.0
        ok    Python 3.11.9
        ok    tensorflow 2.21.0
        ...
        Ready.
    """
    found = findings()
    for status, line in found:
        print(f"{status:<4}  {line}")
    broken = sum(status == "FIX" for status, _ in found)
    print(f"{broken} thing{'s' if broken > 1 else ''} to fix, see above." if broken else "Ready.")


def findings():
    """The lines of `check_setup`: list of (status, text)."""
    found = [("ok", f"ganse_tf {__version__}"), _python()]
    found += [_package(name, minimum) for name, minimum in MINIMUM.items()]
    return [*found, _device(), _disk(), _weights()]


def _python():
    version, (oldest, newest) = sys.version_info[:2], PYTHON
    text = f"Python {platform.python_version()}"
    if version < oldest:
        return "FIX", f"{text}: needs {oldest[0]}.{oldest[1]} or newer"
    if version > newest:
        return "note", f"{text}: newer than what was tested ({newest[0]}.{newest[1]})"
    return "ok", text


def _package(name, minimum):
    """Import a package and compare its version."""
    fix = FIXES.get(name, f"pip install -U '{name}>={minimum}'")
    try:
        module = importlib.import_module(name)
    except Exception as error:  # a broken binary raises anything from ImportError to OSError
        return "FIX", f"{name} cannot be imported ({type(error).__name__}: {error}): {fix}"
    version = getattr(module, "__version__", None)
    if not isinstance(version, str):
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            return "note", f"{name}: version unknown"
    if _numbers(version) < _numbers(minimum):
        return "FIX", f"{name} {version} is too old: {fix}"
    return "ok", f"{name} {version}"


def _numbers(version):
    """(2, 16, 1) from "2.16.1rc0"."""
    parts = (re.match(r"\d+", part) for part in version.split("."))
    return tuple(int(part.group()) for part in parts if part)


def cores():
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def processor():
    """Name of the CPU, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor() or platform.machine()


def _device():
    try:
        import tensorflow as tf

        gpus = tf.config.list_physical_devices("GPU")
        names = [tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name) for gpu in gpus]
    except Exception as error:
        return "FIX", f"device: TensorFlow cannot list the devices ({type(error).__name__}: {error})"
    if names:
        return "ok", f"device: {', '.join(names)} and {cores()} CPU cores"
    return "note", f"device: no GPU, {cores()} CPU cores. The tiny presets are made for this; the papers' sizes want a GPU"


def _disk():
    free = shutil.disk_usage(os.getcwd()).free / 1e9
    text = f"disk: {free:.1f} GB free here"
    return ("ok", text) if free >= FREE_DISK_GB else ("note", f"{text}; enough for the toy corpus, not for VoiceBank+DEMAND")


def _weights():
    from ganse_tf import presets

    names = presets.names()
    return ("ok", f"released weights: {', '.join(names)}") if names else ("note", "released weights: none in this copy")
