"""What users' code gives back, held against what it should be.

Each function says what is wrong in terms of the user's own code: `where` is "ModelManager.fit_model()" or such.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from flops_trainer.failure import Failure, say

if TYPE_CHECKING:
    from typing import Any

    import numpy as np

METRICS_MAX = 64
METRIC_NAME_MAX = 128
EXAMPLES_MAX = 1 << 53


def bad(message: str) -> Failure:
    return Failure("TrainerBadResult", message)


def describe(value: Any) -> str:
    """Short, of whatever it is."""
    if value is None:
        return "None"
    try:
        text = repr(value)
    except Exception:
        text = "…"
    return f"{type(value).__name__} {text[:60]}{'…' if len(text) > 60 else ''}"


def _is_number(value: Any) -> bool:
    return not isinstance(value, (str, bytes, bool)) and (hasattr(value, "__float__") or hasattr(value, "__index__"))


def number(value: Any, where: str) -> float | None:
    """None for what is not known: None itself, NaN, infinity."""
    if value is None:
        return None
    try:
        if not _is_number(value):
            raise TypeError
        found = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise bad(f"{where} must be a number, not {describe(value)}") from None
    return found if math.isfinite(found) else None


def count(value: Any, where: str) -> int:
    found = number(value, where)
    if found is None or found != int(found) or not 1 <= found <= EXAMPLES_MAX:
        raise bad(f"{where} must be a number of examples, a whole number above 0, not {describe(value)}")
    return int(found)


def metrics(value: Any, where: str) -> dict[str, float | None]:
    """Those that are numbers: others (texts, lists) cannot be averaged, and are left out with a word in the log."""
    if value is None:
        return {}
    if not hasattr(value, "items"):
        raise bad(f"{where} must be a dictionary of numbers, not {describe(value)}")
    found: dict[str, float | None] = {}
    for name, item in value.items():
        if len(found) == METRICS_MAX:
            say(f"{where} are more than {METRICS_MAX}: the rest is left out", once=True)
            break
        if _is_number(item) and len(str(name).encode()) <= METRIC_NAME_MAX:
            found[str(name)] = number(item, f"{where}[{name!r}]")
        else:
            say(f"{where}[{str(name)[:METRIC_NAME_MAX]!r}] is left out: it is of type {type(item).__name__}", once=True)
    return found


def _array(value: Any, where: str) -> np.ndarray:
    import numpy as np

    try:
        if hasattr(value, "detach"):  # PyTorch's
            value = value.detach().cpu()
            if str(value.dtype) == "torch.bfloat16":  # which NumPy does not have
                value = value.float()
        array = np.asarray(value)
        if array.dtype.name == "bfloat16":  # of a package beside NumPy, which Keras uses
            array = array.astype(np.float32)
    except Exception as error:
        raise bad(f"{where} must be an array, not {describe(value)}: {error}") from None
    if array.dtype.kind not in "fiub":
        raise bad(f"{where} must be an array of numbers, not {describe(value)}")
    return array


def parameters(value: Any, where: str) -> tuple[dict[str, np.ndarray], bool]:
    """By name; and whether they had names. Without names they are called "0", "1", … as in Flower."""
    if hasattr(value, "items"):
        named, has_names = {str(name): item for name, item in value.items()}, True
    elif isinstance(value, (list, tuple)):
        named, has_names = {str(i): item for i, item in enumerate(value)}, False
    else:
        raise bad(f"{where} must be a list of NumPy arrays (or a dictionary of them), not {describe(value)}")
    if not named:
        raise bad(f"{where} gave no arrays at all")
    return {name: _array(item, f"{where}[{name if not has_names else repr(name)}]") for name, item in named.items()}, \
        has_names


def ordered(model: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Of a model without names, as a list."""
    names = sorted(model, key=lambda name: (0, int(name), name) if name.isdigit() else (1, 0, name))
    return [model[name] for name in names]


def like(model: dict[str, np.ndarray], base: dict[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """The same tensors as in `base`, of its types; floats may have another width."""
    import numpy as np

    if set(model) != set(base):
        raise bad(f"{where} gave {_names(model)}, where the model has {_names(base)}")
    fitting = {}
    for name, wanted in base.items():
        array = model[name]
        if array.shape != wanted.shape:
            raise bad(f"{where}: array {name} has shape {array.shape}, where the model's has {wanted.shape}")
        if not np.can_cast(array.dtype, wanted.dtype, "same_kind"):
            raise bad(f"{where}: array {name} is of type {array.dtype}, where the model's is of {wanted.dtype}")
        fitting[name] = array.astype(wanted.dtype, copy=False)
    return fitting


def _names(model: dict[str, np.ndarray]) -> str:
    names = list(model)
    shown = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
    return f"{len(names)} array{'s' if len(names) != 1 else ''} ({shown})"


def triple(value: Any, where: str) -> tuple[Any, Any, Any]:
    """(loss, accuracy, examples)"""
    if not isinstance(value, (list, tuple)) or len(value) != 3:
        raise bad(f"{where} must give (loss, accuracy, number of examples), not {describe(value)}")
    return value[0], value[1], value[2]
