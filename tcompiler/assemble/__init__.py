"""From scheduled kernels to an artifact: code, packed constants, memory, the entry point; finished kernels are kept."""

from tcompiler.assemble.artifact import assemble

__all__ = ["assemble"]
