"""The queue before the writer: what fits, what is lost, and when it is time to end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trafficmond.errors import StoreError
from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store.queue import TRANSACTION_ROWS, Queue

Make = Callable[..., Batch]


@pytest.fixture
def queue(path: Path) -> Queue:
    return Queue(path, 3 * TRANSACTION_ROWS)


def test_batches_come_in_pieces_of_a_transaction_and_no_more_than_fit(
    queue: Queue, names: Names, make_reports: Make
) -> None:
    assert queue.put(make_reports(2 * TRANSACTION_ROWS + 1), names) == 0
    assert queue.put(make_reports(2 * TRANSACTION_ROWS), names) == TRANSACTION_ROWS + 1
    assert [len(batch) for batch, _ in queue.batches] == [TRANSACTION_ROWS, TRANSACTION_ROWS, 1, TRANSACTION_ROWS - 1]
    assert (queue.rows, queue.lost_rows) == (3 * TRANSACTION_ROWS, TRANSACTION_ROWS + 1)


def test_what_is_taken_makes_room_and_the_rest_of_a_batch_stays_first(
    queue: Queue, names: Names, make_reports: Make
) -> None:
    queue.put(make_reports(10), names)
    queue.put(make_reports(20), names)
    queue.took(2, [(queue.batches[1][0][5:], names)], written=12, lost=3)
    assert [len(batch) for batch, _ in queue.batches] == [15]
    assert (queue.rows, queue.lost_rows) == (15, 3)
    queue.took(1, [], written=15, lost=0)
    assert not queue.batches
    assert not queue.rows


def test_it_waits_for_work_and_not_longer_than_told(queue: Queue, names: Names, make_reports: Make) -> None:
    began = time.monotonic()
    assert queue.wait(0.05)
    assert time.monotonic() - began > 0.04
    queue.put(make_reports(1), names)
    assert queue.has_work
    assert queue.wait(60)


def test_at_the_end_it_takes_nothing_and_asks_for_what_waits_to_be_written_in_time(
    queue: Queue, names: Names, make_reports: Make
) -> None:
    queue.put(make_reports(5), names)
    queue.stop(0.2)
    assert queue.put(make_reports(5), names) == 5
    assert queue.wait(60)
    queue.pause(60, 0.01)
    time.sleep(0.2)
    assert not queue.wait(60), "its time is over"
    queue.close("the disk is full")
    assert (queue.rows, queue.lost_rows) == (0, 10)


def test_a_task_has_its_result_or_the_reason_and_only_what_it_would_have_written_is_a_loss(queue: Queue) -> None:
    done, failed, reading, left = (
        queue.submit(lambda _: None, writes=what) for what in ("a thing", "another", "", "the last")
    )
    for failure in ("", "no such table", "no such file"):
        assert queue.task is not None
        queue.finish_task(queue.task, 7, failure)
    queue.close("closed")
    assert done.result(0) == 7
    for future, why in (
        (failed, "no such table"),
        (reading, "no such file"),
        (left, r"before this was done \(closed\)"),
    ):
        with pytest.raises(StoreError, match=why):
            future.result(0)
    assert queue.task is None
    assert queue.lost_rows == 2
