"""Functions over symbolic tensors: numpy's names and conventions, and those of neural networks.

Where numpy has a function of the same name, it means the same here: broadcasting, promotion of element types, negative
axes. Results are symbolic tensors; at least one argument has to be one.
"""

from tcompiler.frontend.functions.contraction import *  # noqa: F403
from tcompiler.frontend.functions.elementwise import *  # noqa: F403
from tcompiler.frontend.functions.layers import *  # noqa: F403
from tcompiler.frontend.functions.operands import *  # noqa: F403
from tcompiler.frontend.functions.reduction import *  # noqa: F403
from tcompiler.frontend.functions.shape import *  # noqa: F403
