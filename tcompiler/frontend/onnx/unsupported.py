"""The nearest form that works, for operators of ONNX that have no counterpart here."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_STRINGS = "strings are none of our element types: keep this part outside of the model"
_OPTIONAL = "optional values are none of ours: give the tensor, or export the model without it"
_RANDOM = "give the random numbers to the model as an input"
_VALUES = "its result's shape depends on values: "
_TRAINING = "export the model for inference"

_FORMS = {
    "NonMaxSuppression": _VALUES + "end the model before it, or use TopK",
    "StringNormalizer": _STRINGS,
    "StringConcat": _STRINGS,
    "StringSplit": _STRINGS,
    "RegexFullMatch": _STRINGS,
    "TfIdfVectorizer": _STRINGS,
    "LabelEncoder": _STRINGS,
    "Optional": _OPTIONAL,
    "RandomNormal": _RANDOM,
    "RandomNormalLike": _RANDOM,
    "RandomUniform": _RANDOM,
    "RandomUniformLike": _RANDOM,
    "Multinomial": _RANDOM + ", and use ArgMax",
    "Bernoulli": _RANDOM + ", and use Less",
    "ImageDecoder": "give the decoded image as an input",
    "MaxRoiPool": "Resize with a roi known at compile time, or MaxPool",
    "Gradient": _TRAINING,
    "Momentum": _TRAINING,
    "Adam": _TRAINING,
    "Adagrad": _TRAINING,
}


def nearest(op: str, domain: str, supported: Iterable[tuple[str, str]]) -> str:
    """What works in place of an operator, "" where nothing comes near.

    Args:
        op: The operator's name, of any length.
        domain: Its domain, "" for the standard one.
        supported: Domains and names of the operators that there are.
    """
    if not domain and op in _FORMS:
        return _FORMS[op]
    known = list(supported)
    if domain and ("", op) in known:
        return f"the standard domain has {op}"
    # difflib takes time by the product of the lengths.
    close = difflib.get_close_matches(op[:64], [name for d, name in known if d == domain], n=2)
    if close:
        return f"the nearest are {' and '.join(close)}" if len(close) > 1 else f"the nearest is {close[0]}"
    return "expected one of the standard domain, or a function of the model's own" if domain else ""
