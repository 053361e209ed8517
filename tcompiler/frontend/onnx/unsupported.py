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


def nearest(op: str, supported: Iterable[str]) -> str:
    """What works in place of an operator of the standard domain, "" where nothing comes near.

    Args:
        op: The operator's name, of any length.
        supported: Operators that there are.
    """
    form = _FORMS.get(op)
    if form is not None:
        return form
    # difflib takes time by the product of the lengths.
    close = difflib.get_close_matches(op[:64], list(supported), n=2)
    return f"the nearest are {' and '.join(close)}" if close else ""
