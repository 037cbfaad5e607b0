"""Judges stored flows and those not stored yet, on all cores, and shows the progress."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

from trafficctl.whatif.flows import Edge, Flows, Piece, Reader, of_rows
from trafficctl.whatif.rules import RuleSnapshot
from trafficctl.whatif.tally import Tally
from trafficmond.analyze.progress import Bar
from trafficmond.dataclass import dataclass
from trafficmond.policy.judge import Judge

LIVE = "live"  # in place of a partition's name: flows that are not stored yet
_ALONE = 4  # up to this number of pieces, one process is faster
_MOST_PROCESSES = 8
_PROGRESS_S = 0.5  # between two reports of progress


@dataclass(frozen=True, slots=True)
class Before:
    now: Judge
    then: Judge

    @classmethod
    def of(cls, now: RuleSnapshot, then: RuleSnapshot, at: float) -> Before:
        """The judges at a moment, in epoch seconds. Raises ConfigError."""
        judges = (Judge(each.policy(), each.ban_policy(), established=each.established, now=at) for each in (now, then))
        return cls(*judges)

    def report(self, tally: Tally, table: str, rows: Flows) -> None:
        """Judges rows by both and adds the differences to `tally`."""
        if len(rows):
            tally.add(table, rows, self.now.verdicts(rows.of), self.then.verdicts(rows.of))


def judge_all(before: Before, store: Path, edge: Edge, since: float, live: Sequence[Mapping[str, Any]]) -> Tally:
    """Judges the flows stored up to `edge` and seen since then, and the `live` rows. Raises StoreError."""
    tally = Tally()
    before.report(tally, LIVE, of_rows(live))
    pieces = list(Reader(store).pieces(edge, since))
    many = min(os.cpu_count() or 1, _MOST_PROCESSES)
    if len(pieces) <= _ALONE or many == 1:
        tally.merge([_work(before, store, pieces, since)])
    else:
        tally.merge(_on_all(before, store, [pieces[each::many] for each in range(many)], since))
    return tally


def _on_all(before: Before, store: Path, shares: Sequence[Sequence[Piece]], since: float) -> Iterable[Tally]:
    """Judges in forked processes, which share the tables."""
    context, bar = multiprocessing.get_context("fork"), Bar("judging")
    judged, whole = multiprocessing.Value("q", 0), sum(piece.rows for share in shares for piece in share)
    with ProcessPoolExecutor(len(shares), context, _inherit, (before, judged)) as pool:
        waiting = {pool.submit(_share, store, share, since) for share in shares}
        while waiting:
            done, waiting = wait(waiting, _PROGRESS_S, "FIRST_COMPLETED")
            bar.show(judged.value, whole)
            for each in done:
                yield each.result()
    bar.clear()


_inherited: tuple[Before, Synchronized[int]]


def _inherit(before: Before, judged: Synchronized[int]) -> None:
    global _inherited
    _inherited = before, judged


def _share(store: Path, pieces: Sequence[Piece], since: float) -> Tally:
    return _work(_inherited[0], store, pieces, since, _inherited[1])


def _work(
    before: Before, store: Path, pieces: Sequence[Piece], since: float, judged: Synchronized[int] | None = None
) -> Tally:
    """Judges the pieces, and adds their rows to `judged`."""
    tally, reader = Tally(), Reader(store)
    for piece in pieces:
        before.report(tally, piece.table, reader.read(piece, since))
        if judged:
            with judged.get_lock():
                judged.value += piece.rows
    return tally
