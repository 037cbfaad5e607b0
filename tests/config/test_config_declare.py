from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from trafficmond.config.declare import PATH, duration, rate, read, setting, size, spec_of, table, tables


@dataclass(frozen=True)
class Inner:
    low: int = setting(1, help="Low.", min=0, max=10)
    high: int = setting(5, help="High.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.high < self.low:
            yield "high", "is below low"


@dataclass(frozen=True)
class Outer:
    flag: bool = setting(False, help="Flag.")
    count: int = setting(20, help="Count.", min=2)
    share: float = setting(0.5, help="Share.", min=0.0, max=1.0)
    mode: str = setting("auto", help="Mode.", choices=("auto", "native"))
    switch: str = setting("off", help="Switch.", choices=("off", "on", "shadow"))
    names: tuple[str, ...] = setting((), help="Names.")
    window: float = duration("60s", help="Window.", min="1s", max="1h")
    room: int = size("1MiB", help="Room.")
    pace: float = rate("100/s", help="Pace.")
    folder: Path = setting(Path("/var"), help="Folder.")
    file: Path | None = setting(None, kind=PATH, help="File.")
    inner: Inner = table(Inner, "inner", help="Inner.")
    items: tuple[Inner, ...] = tables(Inner, "item", help="Items.")


def parse(toml: str, base: Path = Path("/etc")) -> tuple[Outer, dict[str, str]]:
    found: dict[str, str] = {}
    return read(Outer, tomllib.loads(toml), found.__setitem__, base=base), found


def test_an_empty_table_gives_the_defaults() -> None:
    settings, mistakes = parse("")
    assert settings == Outer()
    assert not mistakes
    assert (settings.window, settings.room, settings.pace) == (60.0, 1 << 20, 100.0)


def test_every_kind_is_read() -> None:
    settings, mistakes = parse(
        """
        flag = true
        count = 3
        share = 1
        mode = "native"
        switch = true
        names = ["a", "b"]
        window = 90
        room = "2GiB"
        pace = "6/m"
        folder = "sub/dir"
        file = "/abs"
        inner.low = 3
        item = [{high = 7}, {}]
        """
    )
    assert not mistakes
    assert settings == Outer(
        flag=True,
        count=3,
        share=1.0,
        mode="native",
        switch="on",
        names=("a", "b"),
        window=90.0,
        room=2 << 30,
        pace=0.1,
        folder=Path("/etc/sub/dir"),
        file=Path("/abs"),
        inner=Inner(low=3),
        items=(Inner(high=7), Inner()),
    )


@pytest.mark.parametrize(
    ("toml", "key", "what"),
    [
        ("flga = true", "flga", "no such setting; did you mean flag?"),
        ("zzz = true", "zzz", "no such setting"),
        ("flag = 1", "flag", "1 is not true or false"),
        ("count = true", "count", "true is not a whole number"),
        ("count = 2.0", "count", "2.0 is not a whole number"),
        ("count = 1", "count", "1 is too low; the minimum is 2"),
        ("share = 1.5", "share", "1.5 is too high; the maximum is 1.0"),
        ("share = nan", "share", "nan is not a finite number"),
        ('mode = "nativ"', "mode", '"nativ" is not one of auto, native; did you mean native?'),
        ("mode = true", "mode", "true is not text"),
        ("names = [1]", "names", "is not a list of texts"),
        ('names = "a"', "names", "is not a list of texts"),
        ('window = "2h"', "window", '"2h" is too high; the maximum is "1h"'),
        ("window = true", "window", "true is not a valid duration"),
        ("window = -1", "window", "is not a valid duration"),
        ("window = inf", "window", "is not a valid duration"),
        ('window = "soon"', "window", "'soon' is not a valid duration"),
        ("room = -5", "room", "is not a valid size"),
        ('file = ""', "file", "is not a valid path"),
        ('file = "a\\u0000b"', "file", "is not a valid path"),
        ("inner = 1", "inner", "must be a table; write [inner]"),
        ("item = {}", "item", "must be an array of tables; write [[item]]"),
        ("inner.low = 11", "inner.low", "11 is too high"),
        ("item = [{}, {lwo = 1}]", "item[1].lwo", "did you mean low?"),
        ("item = [{low = 6}]", "item[0].high", "is below low"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_what_is_right(toml: str, key: str, what: str) -> None:
    settings, mistakes = parse(toml)
    assert list(mistakes) == [key]
    assert what in mistakes[key]
    assert settings.count == 20


def test_all_mistakes_are_found_at_once() -> None:
    _, mistakes = parse('flag = 1\ncount = 0\nmode = "x"\ninner.low = -1\nbogus = 1')
    assert sorted(mistakes) == ["bogus", "count", "flag", "inner.low", "mode"]


def test_a_required_setting_is_missed() -> None:
    @dataclass(frozen=True)
    class Needy:
        path: Path = setting(None, kind=PATH, required=True, help="Where.")

    found: dict[str, str] = {}
    read(Needy, {}, found.__setitem__, prefix="list[0]")
    assert found == {"list[0].path": "is missing; Where."}


_TOML_VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@examples(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from([*Outer.__dataclass_fields__, "item", "other"]), _TOML_VALUES))
def test_whatever_a_file_holds_each_setting_is_right_or_named(raw: dict[str, Any]) -> None:
    found: dict[str, str] = {}
    settings = read(Outer, raw, found.__setitem__)
    named = {key.partition(".")[0].partition("[")[0] for key in found}
    for key, value in raw.items():
        if key not in named:
            name = {"item": "items"}.get(key, key)
            assert type(getattr(settings, name)) in (bool, int, float, str, tuple, type(Path()), Inner), (key, value)
    assert 0 <= settings.inner.low <= 10
    assert settings.count >= 2
    assert all(what for what in found.values())


def test_the_declaration_is_at_hand_for_flags() -> None:
    assert spec_of(Outer, "mode").choices == ("auto", "native")
    with pytest.raises(KeyError):
        spec_of(Outer, "inner")
