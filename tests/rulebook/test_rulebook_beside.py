"""Changes by hand beside a reload: they wait for no reading and no compiling, and neither side loses anything."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from rulebook_book import DROP, Book

from trafficmond.model import Direction
from trafficmond.policy.prefixes import parse
from trafficmond.policy.table import compile_columns
from trafficmond.policy.walk import lookup
from trafficmond.standing import Begin
from trafficmond.verdict import rule_of

MANY = [f"{at // 200 + 11}.{at % 200}.0.0/24" for at in range(2000)]  # more than is patched
EARLIER = {**DROP, "cidr": "198.18.0.0/24", "label": "earlier"}
WAIT_S = 30.0


class Held:
    """Something that a reload does, which stands still until it is let go."""

    def __init__(self, subject: Any, name: str, when: Callable[..., bool] = lambda *_, **__: True) -> None:
        self.begun, self._go = threading.Event(), threading.Event()
        self._do, self._when = getattr(subject, name), when
        setattr(subject, name, self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._when(*args, **kwargs) and not self.begun.is_set():
            self.begun.set()
            assert self._go.wait(WAIT_S)
        return self._do(*args, **kwargs)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, WAIT_S)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def held(book: Book, request: pytest.FixtureRequest) -> Held:
    book.run(book.rules.add(EARLIER, keep=False))
    book.write("many.toml", f'[[rule]]\naction = "drop"\nlabel = "many"\ncidr = {MANY}\n'.replace("'", '"'))
    if request.param == "reading":
        return Held(book.rules._sources, "_read")
    return Held(book.rules.standing.maker, "make", lambda *_, whole, **__: whole)


def judged(book: Book) -> None:
    """What was installed last decides as the rules in force do, compiled by themselves."""
    in_force = book.rules.in_force
    assert in_force is not None
    policy = in_force.policy
    rows = policy.prefixes, policy.owner, in_force.columns, policy.default
    expected = compile_columns(*rows, in_force.loaded_at, book.to_jiffies).words
    addresses = parse(["192.0.2.7", "192.0.3.7", "198.18.0.7", "198.18.1.7", "198.51.100.7", "8.8.8.8", *MANY]).prefixes
    for words in (in_force.table.words, book.installed[-1]):
        where = 4, Direction.INGRESS, addresses.hi, addresses.lo
        assert np.array_equal(lookup(words, *where)[0], lookup(expected, *where)[0])


def number(book: Book, label: str) -> int:
    assert book.rules.in_force is not None
    where = 4, Direction.INGRESS, *(np.array([each]) for each in (np.uint64(0xC6120001) << np.uint64(32), np.uint64(0)))
    found = rule_of(int(lookup(book.installed[-1], *where)[0][0]))
    assert book.rules.names()[found] == label
    return found


@pytest.mark.parametrize("held", ["reading", "compiling"], indirect=True)
def test_a_change_waits_for_neither_and_is_not_lost(book: Book, held: Held) -> None:
    async def run() -> None:
        reload = asyncio.create_task(book.rules.load())
        await held.reached()
        before = number(book, "earlier")
        await asyncio.wait_for(book.rules.add({**DROP, "cidr": "192.0.3.0/24"}, keep=False), WAIT_S / 2)
        await asyncio.wait_for(book.rules.add({**DROP, "label": "kept"}, keep=True), WAIT_S / 2)
        await asyncio.wait_for(book.rules.remove("192.0.3.0/24", None, saved=False), WAIT_S / 2)
        assert book.action("192.0.2.7") == "rule drop"
        assert not reload.done()
        assert book.action("11.0.0.7") == "default monitor", "the files are not in force yet"
        judged(book)
        laid_ready: list[Any] = []
        put, book.put = book.put, lambda words: laid_ready.append(words is book.staged) or put(words)  # type: ignore[method-assign]
        held.let_go()
        loaded = await reload
        assert loaded is not None
        assert laid_ready == [True], "what was laid ready is changed and put in force, not copied"
        assert loaded.before is not None
        assert "kept" in {rule.name for rule in loaded.before.policy.rules}, "that was no work of the reload's"
        assert [book.action(each) for each in ("11.0.0.7", "192.0.2.7", "198.18.0.7", "192.0.3.7")] == [
            "rule drop",
            "rule drop",
            "rule drop",
            "default monitor",
        ]
        judged(book)
        assert number(book, "earlier") == before, "it goes on counting under its number"
        assert book.rules.in_force is loaded.in_force
        assert await book.rules.load() == (loaded.in_force, loaded.in_force), "nothing is left to be read"

    book.run(run())


@pytest.mark.parametrize("held", ["reading", "compiling"], indirect=True)
def test_lifelines_are_those_of_the_moment_in_which_the_files_come_in_force(book: Book, held: Held) -> None:
    async def run() -> None:
        reload = asyncio.create_task(book.rules.load())
        await held.reached()
        book.guard = [("11.0.0.7/32", "ssh")]
        held.let_go()
        await reload
        assert book.action("11.0.0.7") == "guard allow"
        assert book.action("11.0.0.8") == "rule drop"

    book.run(run())


@pytest.mark.parametrize("held", ["reading", "compiling"], indirect=True)
def test_a_probation_that_begins_meanwhile_is_not_changed_by_the_files(book: Book, held: Held) -> None:
    async def run() -> None:
        reload = asyncio.create_task(book.rules.load())
        await held.reached()
        done = await book.rules.add(DROP, keep=False, begin=Begin("root", "add-cidr 192.0.2.0/24", 60.0))
        assert done.on_probation
        held.let_go()
        assert await reload is None
        assert (book.action("192.0.2.7"), book.action("11.0.0.7")) == ("rule drop", "default monitor")
        await book.rules.roll_back()
        assert book.action("192.0.2.7") == "default monitor"
        assert await book.rules.load() is not None
        assert book.action("11.0.0.7") == "rule drop", "they are read when it is over"
        judged(book)

    book.run(run())


@pytest.mark.parametrize("held", ["compiling"], indirect=True)
def test_the_files_come_in_force_however_much_is_changed_meanwhile(book: Book, held: Held) -> None:
    async def run() -> None:
        reload = asyncio.create_task(book.rules.load())
        await held.reached()

        async def busy() -> None:
            for at in range(200):
                await book.rules.add({**DROP, "cidr": f"192.0.{at}.0/24"}, keep=False)

        hands = asyncio.create_task(busy())
        await book.rules.add({**DROP, "cidr": "192.1.0.0/24"}, keep=False)
        held.let_go()
        await reload
        assert not hands.done(), "it did not wait for all of them"
        assert book.action("11.0.0.7") == "rule drop"
        await hands
        assert {book.action(f"192.0.{at}.7") for at in range(200)} == {"rule drop"}
        judged(book)

    book.run(run())


@pytest.mark.parametrize("held", ["compiling"], indirect=True)
def test_numbers_of_what_is_being_made_are_not_forgotten(
    book: Book, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trafficmond.policy.ids._KEEP_MOST", 0)

    async def run() -> None:
        reload = asyncio.create_task(book.rules.load())
        await held.reached()
        await book.rules.remove(EARLIER["cidr"], None, saved=False)
        held.let_go()
        loaded = await reload
        assert loaded is not None
        named = [book.rules.names()[each] for each in loaded.in_force.numbered.numbers.tolist()]
        assert named == [rule.name for rule in loaded.in_force.policy.rules]
        assert len(book.rules.names()) == len(named), "and what nobody uses is, once that is in force"

    book.run(run())
