"""The passes that every model goes through, in order."""

from tcompiler.transform.canonicalise import Canonicalise
from tcompiler.transform.cleanup import EliminateDeadCode, ShareCommonSubexpressions
from tcompiler.transform.constants import FoldConstants
from tcompiler.transform.dequantized import MultiplyIntegers
from tcompiler.transform.editing import GraphPass
from tcompiler.transform.norms import FoldBatchNorms
from tcompiler.transform.orders import OrderProducts
from tcompiler.transform.pads import FoldPads
from tcompiler.transform.phases import SplitPhases
from tcompiler.transform.products import SplitProducts

SIMPLIFY: tuple[GraphPass, ...] = (
    EliminateDeadCode(),
    Canonicalise(),
    SplitProducts(),
    OrderProducts(),
    FoldConstants(leave=frozenset({"dequantize"})),
    Canonicalise(),
    MultiplyIntegers(),
    FoldConstants(),
    ShareCommonSubexpressions(),
    Canonicalise(),
    EliminateDeadCode(),
    FoldPads(),
    FoldBatchNorms(),
    EliminateDeadCode(),
)
"""The passes that every model goes through, in order."""

__all__ = [
    "SIMPLIFY",
    "Canonicalise",
    "EliminateDeadCode",
    "FoldBatchNorms",
    "FoldConstants",
    "FoldPads",
    "GraphPass",
    "MultiplyIntegers",
    "OrderProducts",
    "ShareCommonSubexpressions",
    "SplitPhases",
    "SplitProducts",
]
