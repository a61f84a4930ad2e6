"""Memory is capped, not proportional: a log ten times as long takes no more of it."""

from pathlib import Path

import pytest
from benchmarks.bill.__main__ import measure, write_log

SMALL, LARGE = 60_000, 600_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_peak_memory_is_flat_over_the_size_of_the_log(tmp_path: Path) -> None:
    peaks = []
    for count in (SMALL, LARGE):
        path = tmp_path / "agent.jsonl"
        figures = measure(path, write_log(path, "agent", count))
        assert figures["error"] < 0.005
        peaks.append(figures["peak_gb"])
    assert peaks[1] < 1.0
    assert peaks[1] - peaks[0] < 0.7  # the cap of the database, however long the log
