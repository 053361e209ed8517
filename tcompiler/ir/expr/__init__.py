"""Tensor expressions: scopes with loops and reductions, the language that derivation rewrites."""
