"""The eleven papers as a table: class, paper, domain, parameters, released weights. Needs no TensorFlow.

What a paper file says about itself (`paper`, `url`, `domain`, `outputs`) is read from its source text, so the table cannot
disagree with it. The parameter counts stand below, because building a network of 97 million weights to count them takes
seconds; `tests/test_main.py` compares them with the real networks.
"""

import ast
import difflib
import importlib
from pathlib import Path

import ganse_tf
from ganse_tf import presets

FOLDER = Path(__file__).parent / "models"
PARAMETERS = {  # trainable weights of the generator and of all discriminators at the paper's sizes
    "SEGAN": (73_100_049, 24_373_081), "CGAN": (85_013_185, 4_831_041), "GANPostfilter": (6_632_552, 17_538_308),
    "FSEGAN": (41_816_064, 2_761_472), "DNNGAN": (5_542_605, 15_907_493), "AFM": (3_073_821, 278_529),
    "MetricGAN": (1_892_057, 345_330), "SForkGAN": (130_223_762, 24_373_076), "CPGAN": (14_514_401, 26_054_266),
    "MMSEGAN": (788_032, 559_105), "UNetGAN": (3_046_273, 659_009),
}  # fmt: skip
D_SCORES = {  # what D's raw scores mean, for viz.curves; "logits" for all others
    "SEGAN": "least_squares", "DNNGAN": "least_squares", "SForkGAN": "least_squares", "MetricGAN": "metric",
}  # fmt: skip
FACTS = ("paper", "url", "domain", "outputs")


def papers():
    """One dict per paper whose file is there, in the order of publication.

    Returns:
        list of dict: class, file, paper, url, domain, outputs ("speech" or "features"), generator and discriminator
        (trainable weights, int; None if nobody has counted them), presets (list of names).

    Example:
        >>> [row["generator"] for row in papers() if row["class"] == "SEGAN"]
        [73100049]
    """
    released = {}
    for name, card in presets.cards().items():
        released.setdefault(card["class"].rpartition(".")[2], []).append(name)
    found = []
    for name, module in ganse_tf._MODELS.items():
        path = FOLDER / f"{module}.py"
        if path.exists():
            g, d = PARAMETERS.get(name, (None, None))
            about = {"outputs": "speech", **_class_facts(path, name)}
            found.append({"class": name, "file": path.name, **about, "generator": g, "discriminator": d,
                          "presets": sorted(released.get(name, []))})  # fmt: skip
    return found


def _class_facts(path, name):
    """The class attributes of FACTS that are written as plain strings in a paper file."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            assigned = {s.targets[0].id: s.value for s in node.body if isinstance(s, ast.Assign) and _is_name(s.targets[0])}
            return {fact: ast.literal_eval(assigned[fact]) for fact in FACTS if fact in assigned}
    return {}


def _is_name(target):
    return isinstance(target, ast.Name)


def class_name(name):
    """The exact name of a paper's class, whatever the spelling: "dnn_gan", "dnn-gan" and "DnnGan" give "DNNGAN".

    Raises:
        ValueError: no such paper; the message lists them.
    """
    known = {}
    for row in papers():
        known[_plain(row["class"])] = known[_plain(Path(row["file"]).stem)] = row["class"]
    if _plain(name) not in known:
        close = difflib.get_close_matches(_plain(name), known, n=1)
        hint = f" Did you mean {known[close[0]]}?" if close else ""
        raise ValueError(f"There is no model {name!r}.{hint} Models: {', '.join(dict.fromkeys(known.values()))}.")
    return known[_plain(name)]


def model_class(name):
    """The class itself, spelt as for `class_name`; its file and TensorFlow are imported now."""
    name = class_name(name)
    return getattr(importlib.import_module(f"ganse_tf.models.{ganse_tf._MODELS[name]}"), name)


def _plain(name):
    return name.lower().replace("_", "").replace("-", "")
