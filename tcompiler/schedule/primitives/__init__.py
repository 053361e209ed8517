"""The schedule primitives: each a pure function from IR to IR, and the one table of all of them."""

from __future__ import annotations

from tcompiler.schedule.legality import Primitive
from tcompiler.schedule.primitives.accumulate import stage_accumulate
from tcompiler.schedule.primitives.annotate import annotate
from tcompiler.schedule.primitives.bind import bind
from tcompiler.schedule.primitives.blockize import blockize
from tcompiler.schedule.primitives.cache import cache_read, cache_write
from tcompiler.schedule.primitives.compute_at import compute_at
from tcompiler.schedule.primitives.compute_with import compute_with
from tcompiler.schedule.primitives.decompose_padding import decompose_padding
from tcompiler.schedule.primitives.elide import elide
from tcompiler.schedule.primitives.fuse import fuse
from tcompiler.schedule.primitives.inline import compute_inline, reverse_compute_inline
from tcompiler.schedule.primitives.pad_einsum import pad_einsum
from tcompiler.schedule.primitives.parallel import parallel
from tcompiler.schedule.primitives.peel import peel
from tcompiler.schedule.primitives.prefetch import prefetch
from tcompiler.schedule.primitives.reduction import decompose_reduction
from tcompiler.schedule.primitives.reindex import reindex
from tcompiler.schedule.primitives.reorder import reorder
from tcompiler.schedule.primitives.reverse_compute_at import reverse_compute_at
from tcompiler.schedule.primitives.rfactor import rfactor
from tcompiler.schedule.primitives.rolling_update import rolling_update
from tcompiler.schedule.primitives.skip_zeros import skip_zeros
from tcompiler.schedule.primitives.split import split
from tcompiler.schedule.primitives.storage import compact, pad_stride, set_scope, transform_layout
from tcompiler.schedule.primitives.tensorize import tensorize
from tcompiler.schedule.primitives.unfold import unfold
from tcompiler.schedule.primitives.unroll import unroll
from tcompiler.schedule.primitives.vectorize import vectorize
from tcompiler.schedule.primitives.write_over import write_over

PRIMITIVES: dict[str, Primitive] = {
    "split": split,
    "fuse": fuse,
    "reorder": reorder,
    "elide": elide,
    "vectorize": vectorize,
    "parallel": parallel,
    "unroll": unroll,
    "peel": peel,
    "cache_read": cache_read,
    "cache_write": cache_write,
    "stage_accumulate": stage_accumulate,
    "compute_at": compute_at,
    "reverse_compute_at": reverse_compute_at,
    "compute_with": compute_with,
    "compute_inline": compute_inline,
    "reverse_compute_inline": reverse_compute_inline,
    "decompose_reduction": decompose_reduction,
    "skip_zeros": skip_zeros,
    "rfactor": rfactor,
    "rolling_update": rolling_update,
    "set_scope": set_scope,
    "compact": compact,
    "transform_layout": transform_layout,
    "pad_stride": pad_stride,
    "write_over": write_over,
    "reindex": reindex,
    "pad_einsum": pad_einsum,
    "decompose_padding": decompose_padding,
    "blockize": blockize,
    "tensorize": tensorize,
    "prefetch": prefetch,
    "annotate": annotate,
    "bind": bind,
    "unfold": unfold,
}
"""Every primitive by name; `Schedule` has a method for each."""
