"""Released weights: name -> model, file, SHA-256, how trained, how scored. Everything lies inside the package.

``presets.json`` beside the weights is written by ``python -m training.release`` and holds one card per preset.
The files hold the generator as float16, and the model's own statistics (mean, deviation of its features) as float32:
enough to enhance, and to go on training with a fresh D.
"""

import functools
import hashlib
import importlib
import json
from pathlib import Path

import numpy as np

WEIGHTS = Path(__file__).parent / "weights"
INDEX = WEIGHTS / "presets.json"


@functools.cache
def cards():
    """All cards: name -> dict with class, config, file, sha256, data, stages (epochs, minutes), command, scores, limits."""
    return json.loads(INDEX.read_text(encoding="utf-8")) if INDEX.exists() else {}


def names():
    """Names that `from_preset` knows."""
    return sorted(cards())


def from_preset(name):
    """Build a released model and load its trained generator.

    Args:
        name: one of `names()`.

    Returns:
        The paper's model, not compiled; ``enhance`` works at once.

    Raises:
        ValueError: no such preset, or its file is damaged (SHA-256 differs from the card).

    Example:
        >>> model = ganse_tf.from_preset("metricgan")
        >>> enhanced = model.enhance(noisy, sample_rate=16000)
    """
    if name not in cards():
        raise ValueError(f"There is no preset {name!r}. Released presets: {', '.join(names()) or 'none'}.")
    card = cards()[name]
    path = WEIGHTS / card["file"]
    content = path.read_bytes() if path.exists() else b""
    digest = hashlib.sha256(content).hexdigest()
    if digest != card["sha256"]:
        raise ValueError(
            f"The weights of preset {name!r} are damaged: {path.name} has SHA-256 {digest[:16]}..., the card says "
            f"{card['sha256'][:16]}.... Reinstall the package: pip install --force-reinstall --no-deps ganse_tf."
        )
    module, _, class_name = card["class"].rpartition(".")
    model = getattr(importlib.import_module(module), class_name)(**card["config"])
    with np.load(path) as file:
        load_arrays(model, file)
    return model


def save(name, model, card):
    """Write `model`'s generator and its card under `name` (used by the training scripts, not by users)."""
    WEIGHTS.mkdir(exist_ok=True)
    cards.cache_clear()  # other trainings may have released something since
    path = WEIGHTS / f"{name}.npz"
    np.savez_compressed(path, **arrays(model, np.float16))
    config = {k: v for k, v in model.get_config().items() if k != "name"}
    entry = {
        "class": f"{type(model).__module__}.{type(model).__name__}", "config": config, "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "parameters": int(model.generator.count_params()), **card,
    }  # fmt: skip
    _write({**cards(), name: entry})
    return path


def arrays(model, dtype=np.float32):
    """All that enhancing needs, as name -> array: the generator's weights in `dtype` and the model's own statistics."""
    weights = {f"w{i:03d}": w.astype(dtype) for i, w in enumerate(model.generator.get_weights())}
    return weights | {key: np.array(variable) for key, variable in _statistics(model).items()}


def load_arrays(model, found):
    """Give `model` back what `arrays` took from one of the same sizes; `found` is a dict or an open .npz file."""
    count = sum(key.startswith("w") for key in found)
    model.generator.set_weights([found[f"w{i:03d}"].astype(np.float32) for i in range(count)])
    for key, variable in _statistics(model).items():
        variable.assign(found[key])


def note(name, **facts):
    """Add facts, such as ``scores``, to the card of a preset (used by the training scripts, not by users)."""
    cards.cache_clear()  # other trainings may have released something since
    _write({**cards(), name: {**cards()[name], **facts}})


def _statistics(model):
    """Variables that belong to the model itself, to none of its networks: file key -> variable, without the step counter."""
    inside = {id(w) for layer in model.layers for w in layer.weights}
    own = [w for w in model.non_trainable_weights if id(w) not in inside and w is not model.step]
    return {f"statistics_{w.name}": w for w in own}


def _write(known):
    INDEX.write_text(json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    cards.cache_clear()
