"""Declares settings: each once, as a field of a frozen dataclass.

    @dataclass(frozen=True)
    class Settings:
        ports: int = setting(20, help="Distinct ports before it is a scan.", min=2)
        window: float = duration("60s", help="How long probes are remembered.", min="1s")

The declaration gives the default, the validation (`read`), the sample file and the reference
(packaging/generate/rendering.py), and the help of a flag (`spec_of`).
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from trafficmond.config import units
from trafficmond.dataclass import dataclass

T = TypeVar("T")
Check = Callable[[Any], Any]
Report = Callable[[str, str], None]
"""Called with the key of a mistake ("flows.interval", "log[1].format") and its text."""

_METADATA = "setting"


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of setting: `parse` reads a value of TOML or raises ValueError; `show` writes it as TOML."""

    name: str  # shown in the reference: "duration"
    parse: Callable[[Any], Any]
    show: Callable[[Any], str]


def _expect(what: str, example: str, *types: type) -> Callable[[Any], Any]:
    def parse(value: Any) -> Any:
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError(f"{_quote(value)} is not {what}, for example {example}")
        return value

    return parse


def _quantity(name: str, from_text: Callable[[str], Any], example: str) -> Callable[[Any], Any]:
    plain = _expect(f"a valid {name}", example, str, int, float)

    def parse(value: Any) -> Any:
        return from_text(value if isinstance(value, str) else format(plain(value), "f").rstrip("0").rstrip("."))

    return parse


def _number(value: Any) -> float:
    number = float(_expect("a number", "0.5", int, float)(value))
    if not math.isfinite(number):
        raise ValueError(f"{number} is not a finite number, for example 0.5")
    return number


def _seconds(text: str) -> float:
    return units.parse_duration(text if text[-1:].isalpha() else f"{text}s")


def _text_list(value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise ValueError(f'{_quote(value)} is not a list of texts, for example ["one", "two"]')
    return tuple(value)


def _path(value: Any) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError(f'{_quote(value)} is not a valid path, for example "/var/log/trafficmon/traffic.jsonl"')
    return Path(value)


def _paths(value: Any) -> tuple[Path, ...]:
    return tuple(map(_path, _text_list(value)))


def _quote(value: Any) -> str:
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, (str, Path)):
        text = '"' + "".join(_escape(c) for c in str(value)) + '"'
    elif isinstance(value, (list, tuple)):
        text = "[" + ", ".join(map(_quote, value)) + "]"
    else:
        text = str(value)
    return text if len(text) <= 200 else text[:60] + "..."


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return char if char >= " " and char != "\x7f" else f"\\u{ord(char):04x}"


BOOL = Kind("true or false", _expect("true or false", "true", bool), _quote)
INTEGER = Kind("integer", _expect("a whole number", "20", int), _quote)
NUMBER = Kind("number", _number, _quote)
TEXT = Kind("text", _expect("text", '"text"', str), _quote)
TEXTS = Kind("list of texts", _text_list, _quote)
PATH = Kind("path", _path, lambda value: _quote(value or ""))
PATHS = Kind("list of paths", _paths, _quote)
DURATION = Kind("duration", _quantity("duration", _seconds, '"30s"'), lambda v: _quote(units.format_duration(v)))
SIZE = Kind("size", _quantity("size", units.parse_size, '"100MiB"'), lambda v: _quote(units.format_size(v)))
RATE = Kind("rate", _quantity("rate", units.parse_rate, '"100/s"'), lambda v: _quote(units.format_rate(v)))

_KIND_OF: Mapping[type, Kind] = {bool: BOOL, int: INTEGER, float: NUMBER, str: TEXT, tuple: TEXTS}


@dataclass(frozen=True, slots=True)
class Spec:
    kind: Kind
    default: Any
    help: str
    min: Any = None
    max: Any = None
    choices: tuple[str, ...] = ()
    check: Check | None = None  # checks the value (each item of a list): raises ValueError or returns what to keep
    required: bool = False
    example: str = ""  # TOML for the sample file, if the default is no good example
    restart: bool = False  # whether a change takes effect at the next start only

    def parse(self, value: Any) -> Any:
        """Reads a value of TOML or of a flag. Raises ValueError with a valid example."""
        if isinstance(value, bool) and {"on", "off"} <= set(self.choices):
            value = "on" if value else "off"
        parsed = self.kind.parse(value)
        if self.kind is TEXTS:
            return tuple(self._checked(item) for item in parsed)
        return self._checked(parsed)

    def _checked(self, value: Any) -> Any:
        if self.choices and value not in self.choices:
            raise ValueError(
                f"{_quote(value)} is not one of {', '.join(self.choices)}{guess(str(value), self.choices)}"
            )
        if self.min is not None and value < self.min:
            raise ValueError(f"{self.kind.show(value)} is too low; the minimum is {self.kind.show(self.min)}")
        if self.max is not None and value > self.max:
            raise ValueError(f"{self.kind.show(value)} is too high; the maximum is {self.kind.show(self.max)}")
        return self.check(value) if self.check else value


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The declaration of a table of settings, or of an array of tables."""

    cls: type[Any]
    key: str
    many: bool
    help: str


def setting(
    default: Any,
    *,
    help: str,
    min: Any = None,
    max: Any = None,
    choices: Sequence[str] = (),
    check: Check | None = None,
    required: bool = False,
    example: str = "",
    kind: Kind | None = None,
    restart: bool = False,
) -> Any:
    """A bool, int, float, str or tuple-of-str setting, by the type of its default (or of the given `kind`).

    `min` and `max` are inclusive. `check` gets a value (for a list: each item) and returns the value to keep, or
    raises ValueError. Paths (`kind=PATH`) are relative to the file's folder.
    `restart`: a change takes effect only when the daemon starts.
    """
    if kind is None:
        kind = PATH if isinstance(default, Path) else _KIND_OF[type(default)]
    spec = Spec(kind, default, help, min, max, tuple(choices), check, required, example, restart)
    return dataclasses.field(default=default, metadata={_METADATA: spec})


def duration(default: str, *, help: str, min: str | None = None, max: str | None = None) -> Any:
    """A float setting in seconds, written "250ms", "30s", "5m", "1h30m", "30d"; a bare number means seconds."""
    return _measured(DURATION, default, help, min, max)


def size(default: str, *, help: str, min: str | None = None) -> Any:
    """An int setting in bytes, written "64KiB", "100MiB", "2GiB"; a bare number means bytes."""
    return _measured(SIZE, default, help, min)


def rate(default: str, *, help: str, min: str | None = None) -> Any:
    """A float setting in events a second, written "100/s", "20/m", "5/h"."""
    return _measured(RATE, default, help, min)


def _measured(kind: Kind, default: str, help: str, min: str | None, max: str | None = None) -> Any:
    least, most = (None if bound is None else kind.parse(bound) for bound in (min, max))
    return setting(kind.parse(default), help=help, min=least, max=most, kind=kind)


def table(cls: type[Any], key: str, *, help: str) -> Any:
    """A field for a `[key]` table of the settings that `cls` declares."""
    return dataclasses.field(default_factory=cls, metadata={_METADATA: TableSpec(cls, key, False, help)})


def tables(cls: type[Any], key: str, *, help: str, default: tuple[Any, ...] = ()) -> Any:
    """A field for a tuple with one `cls` for each `[[key]]` table."""
    return dataclasses.field(default=default, metadata={_METADATA: TableSpec(cls, key, True, help)})


def declared(cls: type[Any]) -> dict[str, tuple[str, Spec | TableSpec]]:
    """Field name and declaration by TOML key, in order of declaration."""
    found: dict[str, tuple[str, Spec | TableSpec]] = {}
    for field in dataclasses.fields(cls):
        spec = field.metadata.get(_METADATA)
        if spec is not None:
            found[spec.key if isinstance(spec, TableSpec) else field.name] = (field.name, spec)
    return found


def spec_of(cls: type[Any], key: str) -> Spec:
    """The declaration of the setting `key` of `cls`. Raises KeyError."""
    spec = declared(cls)[key][1]
    if not isinstance(spec, Spec):
        raise KeyError(key)
    return spec


def at_restart(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """The names of settings that differ and that only a restart puts in force."""
    for key, (name, spec) in declared(type(old)).items():
        before, now = getattr(old, name), getattr(new, name)
        if isinstance(spec, Spec) and spec.restart and before != now:
            yield where + key
        elif isinstance(spec, TableSpec) and not spec.many:
            yield from at_restart(before, now, f"{where}{key}.")
        elif isinstance(spec, TableSpec) and before != now and _waits(spec):
            yield where + key


def _waits(spec: TableSpec) -> bool:
    return any(isinstance(each, Spec) and each.restart for _, each in declared(spec.cls).values())


# What other firewalls call it.
_MEANT = {
    "drop": ("block", "deny", "reject"),
    "allow": ("accept", "pass", "permit"),
    "monitor": ("log",),
    "ingress": ("in", "input", "incoming", "inbound"),
    "egress": ("out", "output", "outgoing", "outbound"),
}


def guess(word: str, choices: Sequence[str]) -> str:
    """ "; did you mean X?" if one of `choices` is similar, else empty."""
    import difflib

    meant = [choice for choice, words in _MEANT.items() if choice in choices and word.lower() in words]
    near = meant or difflib.get_close_matches(word.lower(), choices, 1)
    return f"; did you mean {near[0]}?" if near else ""


def read(cls: type[T], raw: Mapping[str, Any], report: Report, *, prefix: str = "", base: Path = Path("/")) -> T:
    """Reads a `cls` from a table of TOML or JSON.

    Each mistake goes to `report`, and its setting keeps the default, so that one reading finds all mistakes. A class
    may have a method `mistakes(self)` that yields (key, what) for settings that contradict each other; it is called
    if the table has no other mistakes. Relative paths start at `base`.
    """
    specs = declared(cls)
    values: dict[str, Any] = {}
    wrong = 0

    def at(key: str) -> str:
        return f"{prefix}.{key}" if prefix else key

    def fail(key: str, what: str) -> None:
        nonlocal wrong
        wrong += 1
        report(key, what)

    for key in raw:
        if key not in specs:
            fail(at(key), f"no such setting{guess(key, list(specs))}")
    for key, (name, spec) in specs.items():
        if key not in raw:
            if isinstance(spec, Spec) and spec.required:
                fail(at(key), f"is missing; {spec.help}")
        elif isinstance(spec, TableSpec):
            values[name] = _read_tables(spec, raw[key], fail, at(key), base)
        else:
            try:
                value = spec.parse(raw[key])
                values[name] = _based(value, base)
            except ValueError as error:
                fail(at(key), str(error))
    made = cls(**values)
    if not wrong:
        for key, what in getattr(made, "mistakes", tuple)():
            report(at(key), what)
    return made


def _based(value: Any, base: Path) -> Any:
    if isinstance(value, tuple):
        return tuple(_based(item, base) for item in value)
    return base / value if isinstance(value, Path) else value


def _read_tables(spec: TableSpec, raw: Any, report: Report, key: str, base: Path) -> Any:
    if not spec.many:
        if isinstance(raw, Mapping):
            return read(spec.cls, raw, report, prefix=key, base=base)
        report(key, f"must be a table; write [{key}] on a line of its own, its settings below")
        return spec.cls()
    if isinstance(raw, list) and all(isinstance(item, Mapping) for item in raw):
        return tuple(read(spec.cls, item, report, prefix=f"{key}[{i}]", base=base) for i, item in enumerate(raw))
    report(key, f"must be an array of tables; write [[{key}]] on a line of its own for each")
    return ()
