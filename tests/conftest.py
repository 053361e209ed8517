"""Shared set-up: deterministic hypothesis, and caches of the tests' own so that no run sees another's."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

settings.register_profile("tests", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("tests")

# Set before any test imports tcompiler, so that compiled objects never come from the user's own cache.
_CACHE = tempfile.TemporaryDirectory(prefix="tcompiler-tests-")
os.environ["TCOMPILER_CACHE_DIR"] = _CACHE.name
