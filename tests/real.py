"""Paths of the real test data; tests that need them are skipped without them."""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("ACTIVEKD_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")

needs_real_data = pytest.mark.skipif(
    not REAL.is_dir(), reason=f"no real data: neither $ACTIVEKD_TEST_DATA nor {REAL} is a folder"
)
