"""Judges stored flows and those not stored yet, on all cores, and shows the progress."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from trafficctl.whatif.flows import Edge, Flows, Piece, Reader, of_rows
from trafficctl.whatif.rules import Rulings
from trafficctl.whatif.tally import Tally
from trafficmond.policy.judge import Judge

LIVE = "live"  # in place of a partition's name: flows that are not stored yet
_ALONE = 4  # up to this number of pieces, one process is faster
_MOST_PROCESSES = 8
_PROGRESS_S = 0.5  # between two reports of progress


@dataclass(frozen=True, slots=True)
class Before:
    """The rules in force and the proposed rules, as judges."""

    now: Judge
    then: Judge

    @classmethod
    def of(cls, now: Rulings, then: Rulings, at: float) -> Before:
        """The judges at a moment, in epoch seconds. Raises ConfigError."""
        judges = (Judge(each.policy(), each.barred(), established=each.established, now=at) for each in (now, then))
        return cls(*judges)

    def report(self, tally: Tally, table: str, rows: Flows) -> None:
        """Judges rows by both and adds the differences to `tally`."""
        if len(rows):
            tally.add(table, rows, self.now.verdicts(rows.of), self.then.verdicts(rows.of))


def judge_all(before: Before, store: Path, edge: Edge, since: float, live: Sequence[Mapping[str, Any]]) -> Tally:
    """Judges the flows stored up to `edge` and seen since then, and the `live` rows. Raises StoreError."""
    tally = Tally()
    before.report(tally, LIVE, of_rows(live))
    pieces = list(edge.pieces(since, Reader(store)))
    many = min(os.cpu_count() or 1, _MOST_PROCESSES)
    progress = _Progress(sum(piece.rows for piece in pieces))
    if len(pieces) <= _ALONE or many == 1:
        tally.merge([_work(before, store, pieces, since, progress.done)])
    else:
        tally.merge(_on_all(before, store, [pieces[each::many] for each in range(many)], since, progress))
    progress.end()
    return tally


def _on_all(
    before: Before, store: Path, shares: Sequence[Sequence[Piece]], since: float, progress: _Progress
) -> Iterable[Tally]:
    """Judges in forked processes, which share the tables."""
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(len(shares), context, _inherit, (before, progress.done)) as pool:
        waiting = {pool.submit(_share, store, share, since) for share in shares}
        while waiting:
            done, waiting = wait(waiting, _PROGRESS_S, "FIRST_COMPLETED")
            progress.report()
            for each in done:
                yield each.result()


_inherited: tuple[Before, Synchronized[int]]


def _inherit(before: Before, done: Synchronized[int]) -> None:
    global _inherited
    _inherited = before, done


def _share(store: Path, pieces: Sequence[Piece], since: float) -> Tally:
    before, done = _inherited
    return _work(before, store, pieces, since, done)


def _work(before: Before, store: Path, pieces: Sequence[Piece], since: float, done: Synchronized[int]) -> Tally:
    tally, reader = Tally(), Reader(store)
    for piece in pieces:
        before.report(tally, piece.table, reader.read(piece, since))
        with done.get_lock():
            done.value += piece.rows
    return tally


class _Progress:
    """Progress on standard error, if that is a terminal."""

    def __init__(self, rows: int) -> None:
        self.done: Synchronized[int] = multiprocessing.Value("q", 0)
        self._rows = rows
        self._began = time.monotonic()
        self._shown = False

    def report(self) -> None:
        if sys.stderr.isatty() and self._rows:
            share = 100 * self.done.value // self._rows
            took = time.monotonic() - self._began
            print(f"\r{self.done.value:,} of {self._rows:,} flows, {share} %, {took:.0f} s", end="", file=sys.stderr)
            self._shown = True

    def end(self) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr)
