"""Layouts of values, chosen over the whole graph."""

from tcompiler.transform.layouts.apply import ChooseLayouts, permuted
from tcompiler.transform.layouts.sums import columns

__all__ = ["ChooseLayouts", "columns", "permuted"]
