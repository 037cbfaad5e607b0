"""Sorts rows by a time, such as flow records by their start: monitors write a flow when it ends. If they do not fit
into memory, sorted runs go to disk and are merged."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from trafficmond.analyze.rows import BATCH, RECORD
from trafficmond.flows.batch import Batch, Column, empty, join, take

RUN = 65536
"""Rows that are sorted at a time; if there is more than one such run, runs go to disk."""


def by_time(batches: Iterable[Batch], column: str = "start", kind: np.dtype[np.void] = RECORD) -> Iterator[Batch]:
    """The same rows sorted by a column, in portions; more than RUN of them are sorted through a temporary file."""
    runs: list[tuple[int, int]] = []  # (first row, rows) of each sorted run on disk
    gathered: list[Batch] = []
    count = 0
    spool: IO[bytes] | None = None
    with contextlib.ExitStack() as stack:
        for batch in batches:
            gathered.append(batch)
            count += len(batch)
            if count >= RUN:
                rows = in_order(gathered, column)
                runs.append((runs[-1][0] + runs[-1][1] if runs else 0, len(rows)))
                gathered, count = [], 0
                if spool is None:
                    import tempfile  # only files with very many flows need it

                    spool = stack.enter_context(tempfile.TemporaryFile())
                spool.write(rows.view(np.uint8).data)
                del rows
        rest = in_order(gathered, column) if gathered else empty(kind)
        gathered = []
        if spool is None:
            yield from (rest[at : at + BATCH] for at in range(0, len(rest), BATCH))
            return
        sources = [_run(spool, first, size, len(runs), kind) for first, size in runs]
        yield from _merge_runs([*sources, iter([rest] if len(rest) else [])], column, kind)


def in_order(batches: list[Batch], column: str) -> Batch:
    """All rows sorted by a column of times; equal times keep their order."""
    rows = join(batches)
    times = rows[column]
    if bool(np.all(times[1:] >= times[:-1])):
        return rows
    return take(rows, np.argsort(times, kind="stable"))


def in_time(times: Column) -> tuple[Column, Column]:
    """(order, sorted times); equal times keep their order."""
    order = np.argsort(times, kind="stable")
    return order, times[order]


def _run(spool: IO[bytes], first: int, size: int, runs: int, kind: np.dtype[np.void]) -> Iterator[Batch]:
    portion = max(RUN // runs, 1024)
    for at in range(first, first + size, portion):
        spool.seek(at * kind.itemsize)
        rows = min(portion, first + size - at)
        yield np.frombuffer(spool.read(rows * kind.itemsize), kind)


def _merge_runs(sources: list[Iterator[Batch]], column: str, kind: np.dtype[np.void]) -> Iterator[Batch]:
    """Merges the runs. A step yields all rows up to the earliest last row in memory: no unread row is before them."""
    loaded = [(next(source, empty(kind)), source) for source in sources]
    loaded = [(rows, source) for rows, source in loaded if len(rows)]
    while loaded:
        edge = min(float(rows[column][-1]) for rows, _ in loaded)
        ready = []
        remaining = []
        for rows, source in loaded:
            cut = int(np.searchsorted(rows[column], edge, side="right"))
            ready.append(rows[:cut])
            left = rows[cut:] if cut < len(rows) else next(source, empty(kind))
            if len(left):
                remaining.append((left, source))
        loaded = remaining
        yield in_order(ready, column)
