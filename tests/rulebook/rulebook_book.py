"""A rulebook and a kernel that takes what it makes, for the tests of rules in force."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np

from trafficmond import abi
from trafficmond.config.settings import Settings
from trafficmond.datapath.loading import Options
from trafficmond.errors import DatapathError
from trafficmond.model import Direction
from trafficmond.part_options import options
from trafficmond.policy.explain import explain
from trafficmond.policy.ids import MAX_ID
from trafficmond.policy.layout import UNIT_WORDS
from trafficmond.rulebook import Rulebook
from trafficmond.ruleset import InForce
from trafficmond.standing import recalled

RULE = '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n'
DROP = {"cidr": "192.0.2.0/24", "action": "drop", "direction": "ingress"}


class Book:
    """A rulebook, and as its data path and clock the tables and the time that it was given."""

    def __init__(self, folder: Path) -> None:
        self.cidr_dir = folder / "cidr.d"
        self.cidr_dir.mkdir()
        (folder / "state").mkdir()
        self.settings = Settings(cidr_dir=self.cidr_dir, state_dir=folder / "state")
        self.options, self.clock, self.tables = options(self.settings), self, self
        self.installed: list[Any] = []
        self.staged: Any = None
        self.tried: list[Any] = []
        self.on_trial_until: float | None = None
        self.refuses: DatapathError | None = None
        self.guard: list[tuple[str, str]] = []
        self.ahead = 0.0  # by how much the wall clock was stepped since
        self._told = 0.0
        self.rules = self.restarted()

    def restarted(self) -> Rulebook:
        return Rulebook(self.settings, self, lambda _: list(self.guard))

    def to_jiffies(self, epoch: float) -> int:
        return int((epoch - self._told) * 250)

    def calibrate(self) -> None:
        jump, self._told = self.ahead - self._told, self.ahead
        if jump:
            self.rules.shift(jump)

    def ends(self) -> dict[int, float]:
        """When the kernel lets each record of the latest table end, in seconds of a clock that nobody steps."""
        words = self.installed[-1]
        at = int(words[abi.HDR_RECORDS]) * UNIT_WORDS
        records = words[at:].view(abi.RECORD)[: int(words[abi.HDR_RECORD_COUNT])]
        return {int(each["verdict"]) & MAX_ID: int(each["expires"]) / 250 for each in records}

    def put(self, words: Any, _place: int = abi.CONFIRMED) -> Any:
        if self.refuses:
            raise self.refuses
        self.installed.append(words)
        return words

    def stage(self, words: Any) -> Any:
        self.staged = np.concatenate([words, np.zeros(4 * abi.PAGE_WORDS, np.uint32)])
        return self.staged

    def unstage(self) -> None:
        self.staged = None

    def try_out(self, words: Any, _options: Options, until: float | None) -> None:
        if self.refuses:
            raise self.refuses
        self.tried.append(words.copy())
        self.on_trial_until = self.on_trial_until if until is None else until

    def confirm(self, words: Any, _options: Options) -> None:
        self.put(words)
        self.on_trial_until = None

    def roll_back(self) -> None:
        self.on_trial_until = None

    def write(self, name: str, text: str) -> None:
        (self.cidr_dir / name).write_text(text)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(work)

    def load(self, settings: Settings | None = None) -> InForce:
        """What is in force when the files were read."""
        self.run(self.rules.load(settings))
        assert self.rules.in_force is not None
        return self.rules.in_force

    def action(self, address: str) -> str:
        assert self.rules.in_force is not None
        decided = explain(self.rules.in_force.policy, address, Direction.INGRESS, time.time())[0]
        return f"{decided.reason} {decided.action}"


def actions(book: Book) -> list[str]:
    """Whether the rule made by hand, that of cidr.d and the other one drop."""
    return [book.action(address).split()[1] for address in ("192.0.2.1", "203.0.113.1", "192.88.99.1")]


def restarted(book: Book, *, until: float | None) -> tuple[bool, str]:
    """A new daemon over a kernel that tells such an end; whether the files were refused, and what is not known."""
    book.rules, book.on_trial_until = book.restarted(), until
    settings, kept, untold = recalled(book.settings)
    book.rules.standing.recall(kept, untold)
    refused = settings is not book.settings
    book.run(book.rules.load_confirmed(settings) if refused else book.rules.load())
    return refused, book.rules.standing.error
