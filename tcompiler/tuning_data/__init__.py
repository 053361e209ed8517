"""Tuning records and trained cost models that ship with the package, one folder per target."""
