"""Measurements beside other systems, and the generated models that tests and benchmarks share."""
