"""Every figure of the README, and its tables of papers and weights, made again: `python -m figures.make`."""

import re
from pathlib import Path

import ganse_tf
from ganse_tf import catalogue, presets, scoring, viz
from results import make as results

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
COLAB = "https://colab.research.google.com/github/ganse-tf/ganse_tf/blob/main/notebooks"


def papers():
    """Markdown table of the papers whose file is there, and a line that names the missing ones."""
    rows, cells = catalogue.papers(), []
    for row in rows:
        found = sorted((HERE.parent / "notebooks").glob(f"*_{row['file'].removesuffix('.py')}.ipynb"))
        notebook = f"[![Open {row['class']} in Colab]({BADGE})]({COLAB}/{found[0].name})" if found else ""
        counts = " / ".join("-" if row[n] is None else f"{row[n]:,}" for n in ("generator", "discriminator"))
        cells.append([f"`{row['class']}`", f"[{row['paper']}]({row['url']})", row["domain"], row["outputs"], counts, notebook])
    header = ["class", "paper", "works on", "gives", "G / D parameters (trainable)", "notebook"]
    lines = [scoring.markdown_table(header, cells)]
    missing = [name for name in ganse_tf._MODELS if name not in {row["class"] for row in rows}]
    if missing:
        lines += ["", f"Planned, not in this version: {', '.join(f'`{name}`' for name in missing)}."]
    return lines


def weights():
    """Markdown table of the released weights; their scores stand in the block "results"."""
    rows = []
    for name in presets.names():
        card = presets.cards()[name]
        minutes = " + ".join(str(stage["cpu_minutes"]) for stage in card["stages"])
        rows.append([f"`{name}`", f"{card['parameters']:,}", minutes])
    return [scoring.markdown_table(["preset", "G parameters", "trained (CPU minutes)"], rows)]


def main():
    viz.save(viz.architecture(ganse_tf.SEGAN.tiny(), "SEGAN tiny"), HERE / "segan_tiny.png")
    viz.save(viz.architecture(ganse_tf.MetricGAN.tiny(), "MetricGAN tiny"), HERE / "metricgan_tiny.png")
    text = README.read_text(encoding="utf-8")
    for name, lines in (("papers", papers()), ("weights", weights()), ("results", results.top())):
        new = f"<!-- begin {name} -->\n" + "\n".join(lines) + f"\n<!-- end {name} -->"
        text = re.sub(f"<!-- begin {name} -->.*?<!-- end {name} -->", lambda _, new=new: new, text, flags=re.S)
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
