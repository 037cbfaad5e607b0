from __future__ import annotations

import time

import pytest
from sink_events import NAMES, many

from trafficmond.worker import Worker


class Mistaken(Worker):
    def _work(self) -> None:
        raise ValueError("an object where a number belongs")

    def _explained(self, error: OSError) -> str:
        return str(error)


def test_a_mistake_in_a_thread_is_reported_and_what_it_would_have_done_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Mistaken("export", 100)
    worker.put(many(3), NAMES)
    worker.start()
    worker.join(time.monotonic() + 5)
    worker.put(many(2), NAMES)
    assert (worker.ended, worker.lost) == (True, 5)
    assert "stopped because of a defect in trafficmon (ValueError('an object" in worker._error
    assert "the thread export stopped because of a defect in trafficmon" in caplog.text
