"""Notebooks from their sources: `python notebooks/build.py [NAME ...]` executes them, `--check` only compares.

The source of truth is ``notebooks/src/*.py`` (jupytext, percent format): readable in a diff. The ``.ipynb`` next to this file is
made from it, executed with its outputs, for reading on the web. ``--check`` proves that both hold the same cells and that
README.md, the table of notebooks with the minutes each took, is what this script writes.
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).parent
README = HERE / "README.md"
COLAB = "https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks"
INTRODUCTION = """# The course

Each notebook runs from top to bottom without network. `tiny` is for two CPU cores; `paper`, and a real corpus from
`python -m data_prep`, are one form field away. Exercises check themselves: `ganse_tf.classroom.check(...)`.
CPU minutes were measured by `python notebooks/build.py`, all cores together: on one free core that long, on two little more
than half. This file is written by that command, too.

| notebook | CPU minutes | minutes (Colab T4) | |
|---|---:|---:|---|"""
MAX_BYTES = 2_000_000
TIMEOUT = 900  # seconds per cell
COLOURS = 256  # of a picture; a spectrogram then takes half the bytes and looks the same
TENSORFLOW_START = ("WARNING: All log messages before absl", "cudart_stub.cc", "cuda_platform.cc", "cpu_feature_guard.cc",
                    "To enable the following instructions", "TqdmWarning", "notebook_tqdm")  # fmt: skip; at every import without a GPU


def sources(names):
    paths = sorted((HERE / "src").glob("*.py"))
    return [p for p in paths if not names or p.stem in names]


def cells(notebook):
    return [(cell.cell_type, cell.source.strip()) for cell in notebook.cells]


def check(path):
    """Sentence about what differs between source and notebook, or None."""
    built = HERE / f"{path.stem}.ipynb"
    if not built.exists():
        return f"{built.name} is missing: run python notebooks/build.py {path.stem}"
    notebook = nbformat.read(built, as_version=4)
    if cells(jupytext.read(path)) != cells(notebook):
        return f"{built.name} is not what src/{path.name} says: run python notebooks/build.py {path.stem}"
    if built.stat().st_size > MAX_BYTES:
        return f"{built.name} has {built.stat().st_size} bytes, more than {MAX_BYTES}: fewer or shorter players and pictures"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                return f"{built.name} ended with {output.ename}: {output.evalue}"
    return None


def smaller(png):
    """The same picture with a palette, base64 in and out."""
    from PIL import Image

    found = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB").quantize(COLOURS).save(found, "PNG", optimize=True)
    return min(base64.b64encode(found.getvalue()).decode(), png, key=len)


def tidy(notebook):
    """Smaller pictures, without times of execution and without what TensorFlow says at import."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            if output.output_type == "stream" and output.name == "stderr":
                lines = [line for line in output.text.splitlines(True) if not any(word in line for word in TENSORFLOW_START)]
                output.text = "".join(lines)
        if cell.cell_type == "code":
            cell.outputs = joined([output for output in cell.outputs if output.get("text") != ""])


def joined(outputs):
    """Prints that the kernel sent in several pieces as one output."""
    kept = []
    for output in outputs:
        if kept and output.output_type == kept[-1].output_type == "stream" and output.name == kept[-1].name:
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def execute(path):
    from nbclient import NotebookClient

    notebook = jupytext.read(path)
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"{path.stem[:40]}-{i:03d}".replace("_", "-")  # stable ids: small diffs
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    start = sum(os.times()[2:4])  # CPU seconds of finished child processes: the kernel's, however busy the machine
    NotebookClient(notebook, timeout=TIMEOUT, resources={"metadata": {"path": str(HERE)}}).execute()
    minutes = round((sum(os.times()[2:4]) - start) / 60, 1)
    notebook.metadata["ganse_tf"] = {"cpu_minutes": minutes}
    tidy(notebook)
    nbformat.write(notebook, HERE / f"{path.stem}.ipynb")
    print(f"{path.stem}: {minutes} CPU minutes", flush=True)


def readme():
    """Text of README.md: one line per built notebook."""
    lines = []
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        title = next(line for line in notebook.cells[0].source.splitlines() if line.startswith("# ")).removeprefix("# ")
        minutes = notebook.metadata.get("ganse_tf", {}).get("cpu_minutes", "not measured")
        lines.append(f"| [{title}]({path.name}) | {minutes} | not measured | [open {path.stem} in Colab]({COLAB}/{path.name}) |")
    return "\n".join([INTRODUCTION, *lines]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="stems, e.g. 04_segan; all if left out")
    parser.add_argument("--check", action="store_true", help="compare, do not execute")
    parser.add_argument("--readme", action="store_true", help="write README.md, do not execute")
    args = parser.parse_args()
    if args.readme:
        README.write_text(readme(), encoding="utf-8")
    elif not args.check:
        for path in sources(args.names):
            execute(path)
        README.write_text(readme(), encoding="utf-8")
    problems = [problem for path in sources(args.names) if (problem := check(path))]
    if not args.names and README.read_text(encoding="utf-8") != readme():
        problems.append("README.md is not what the notebooks say: run python notebooks/build.py --readme")
    print("\n".join(problems) or f"{len(sources(args.names))} notebooks agree with their sources")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
