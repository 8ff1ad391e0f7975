"""Score released presets and write the scores on their cards: `python -m training.score --pairs FOLDER --label LABEL`.

Per-utterance scores go to ``training/scores/PRESET.csv`` (and ``noisy.csv``). The test pairs are never trained on, and no
checkpoint was chosen on them.
"""

import argparse
from pathlib import Path

from ganse_tf import data, metrics, presets

SCORES = Path(__file__).parent / "scores"
NAMES = ("pesq_wb", "pesq_nb", "stoi", "estoi", "si_sdr", "ssnr", "csig", "cbak", "covl")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", required=True, help="folder with noisy/ and clean/")
    parser.add_argument("--label", default="VB+D excerpt, 41 files")
    parser.add_argument("names", nargs="*", default=presets.names())
    args = parser.parse_args()
    pairs = data.pairs(args.pairs)
    SCORES.mkdir(exist_ok=True)
    loaded = [(p.name, *p.load()) for p in pairs]
    noisy = metrics.score_pairs([(name, c, n, rate) for name, n, c, rate in loaded], NAMES, progress=False)
    noisy.to_csv(SCORES / "noisy.csv")
    tables = {"noisy": noisy}
    for name in args.names or presets.names():
        model = presets.from_preset(name)
        table = metrics.score_pairs([(k, c, model.enhance(n, rate), rate) for k, n, c, rate in loaded], NAMES, progress=False)
        table.to_csv(SCORES / f"{name}.csv")
        tables[name] = table
        both = {"noisy": noisy, "enhanced": table}
        means = {key: {k: round(float(v), 4) for k, v in t.means().items()} for key, t in both.items()}
        presets.note(name, scores={args.label: means})
    print(metrics.markdown(tables))


if __name__ == "__main__":
    main()
