"""The odd batches of random schedules: a file of their own, so that two workers share them."""

from __future__ import annotations

import pytest

from tests.schedule.test_schedule_random import BATCHES, keeps_the_meaning


@pytest.mark.parametrize("batch", range(1, BATCHES, 2))
def test_random_schedules_keep_the_meaning(batch: int) -> None:
    keeps_the_meaning(batch)
