"""Backends: scheduled loop programs to machine code."""
