"""Operators on tensors: the language that models are read into."""
