"""Reads a Varlink interface description and checks values against it (varlink.org/Interface-Definition).

The server checks every call against the description that a client gets by introspection.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

from trafficmond.dataclass import dataclass


class Mismatch(ValueError):
    """A value that is not of its declared type; `where` is its path, "limit" or "rules[3].cidr"."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where


@dataclass(frozen=True, slots=True)
class Basic:
    """bool, int, float, string, object, or the name of a declared type."""

    name: str


@dataclass(frozen=True)
class _Of:
    inner: Type


class Nullable(_Of):
    """A type that may be null or left out."""


class Array(_Of):
    """A JSON array of one type."""


class Map(_Of):
    """A JSON object from any string to one type."""


@dataclass(frozen=True, slots=True)
class Struct:
    fields: dict[str, Type]


@dataclass(frozen=True, slots=True)
class Enum:
    names: tuple[str, ...]


Type = Basic | Nullable | Array | Map | Struct | Enum


@dataclass(frozen=True, slots=True)
class Method:
    """The parameters of a method, and the fields of each of its replies."""

    takes: Struct
    gives: Struct


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    text: str
    types: dict[str, Type]
    methods: dict[str, Method]
    errors: dict[str, Struct]

    def check(self, declared: Type, value: Any, where: str = "") -> None:
        """Raises Mismatch unless `value` (of json.loads) is of the declared type."""
        match declared:
            case Nullable(inner):
                if value is not None:
                    self.check(inner, value, where)
            case Array(inner):
                _expect(isinstance(value, list), where, "an array", value)
                for index, item in enumerate(value):
                    self.check(inner, item, f"{where}[{index}]")
            case Map(inner):
                _expect(isinstance(value, dict), where, "an object", value)
                for key, item in value.items():
                    self.check(inner, item, f"{where}[{key}]")
            case Struct(fields):
                _expect(isinstance(value, dict), where, "an object", value)
                self._check_fields(fields, value, f"{where}." if where else "")
            case Enum(names):
                _expect(value in names, where, f"one of {', '.join(names)}", value)
            case Basic(name) if name in _BASIC:
                is_one, wanted = _BASIC[name]
                _expect(is_one(value), where, wanted, value)
            case Basic(name):
                self.check(self.types[name], value, where)

    def _check_fields(self, fields: dict[str, Type], value: dict[str, Any], prefix: str) -> None:
        for key in value:
            if key not in fields:
                known = ", ".join(fields) or "none"
                raise Mismatch(f"{prefix}{key}", f"is not known here (known: {known})")
        for key, inner in fields.items():
            if key in value:
                self.check(inner, value[key], f"{prefix}{key}")
            elif not isinstance(inner, Nullable):
                raise Mismatch(f"{prefix}{key}", "is missing")


def _expect(holds: bool, where: str, wanted: str, value: Any) -> None:
    if not holds:
        raise Mismatch(where or "parameters", f"must be {wanted}, not {value!r:.80}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**64


# JSON can have half of a surrogate pair, which files, databases and terminals do not accept.
_HALF = re.compile("[\ud800-\udfff]")
_BASIC: dict[str, tuple[Callable[[Any], bool], str]] = {  # what is of the type, and what to write
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_int, "a 64-bit integer"),
    "float": (lambda value: _is_int(value) or (isinstance(value, float) and math.isfinite(value)), "a finite number"),
    "string": (lambda value: isinstance(value, str) and not _HALF.search(value), "text"),
    "object": (lambda value: value is not None, "a value"),
}
_TOKEN = re.compile(r"[ \t\r\n]+|#[^\n]*|(->|\[\]|\[string\]|[():,?]|[A-Za-z][A-Za-z0-9._-]*)")


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.next = next(self.tokens)

    def take(self, expected: str = "") -> str:
        token = self.next
        if (expected and token != expected) or not token:
            raise ValueError(f"expected {expected or 'a name'}, found {token or 'the end'}")
        self.next = next(self.tokens, "")
        return token

    def maybe(self, token: str) -> bool:
        if self.next == token:
            self.take()
            return True
        return False

    def type(self) -> Type:
        if self.maybe("?"):
            return Nullable(self.type())
        if self.maybe("[]"):
            return Array(self.type())
        if self.maybe("[string]"):
            return Map(self.type())
        return self.braced() if self.next == "(" else Basic(self.take())

    def braced(self) -> Struct | Enum:
        self.take("(")
        fields: dict[str, Type] = {}
        names: list[str] = []
        while not self.maybe(")"):
            name = self.take()
            if self.maybe(":"):
                fields[name] = self.type()
            else:
                names.append(name)
            if self.next != ")":
                self.take(",")
        if fields and names:
            raise ValueError(f"neither a struct nor an enum: {', '.join([*fields, *names])}")
        return Enum(tuple(names)) if names else Struct(fields)

    def struct(self) -> Struct:
        braced = self.braced()
        if not isinstance(braced, Struct):
            raise ValueError(f"expected fields with types, found {', '.join(braced.names)}")
        return braced


def _tokens(text: str) -> Iterator[str]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if not found:
            raise ValueError(f"line {text.count(chr(10), 0, at) + 1}: unexpected {text[at]!r}")
        at = found.end()
        if found.group(1):
            yield found.group(1)
    yield ""


def parse(text: str) -> Interface:
    """Parses a description. Raises ValueError that names the error."""
    parser = _Parser(text)
    parser.take("interface")
    interface = Interface(parser.take(), text, {}, {}, {})
    while parser.next:
        keyword, name = parser.take(), parser.take()
        if name in interface.types or name in interface.methods or name in interface.errors:
            raise ValueError(f"{name} is declared twice")
        if keyword == "type":
            interface.types[name] = parser.braced()
        elif keyword == "method":
            takes = parser.struct()
            parser.take("->")
            interface.methods[name] = Method(takes, parser.struct())
        elif keyword == "error":
            interface.errors[name] = parser.struct()
        else:
            raise ValueError(f"expected type, method or error, found {keyword}")
    return interface


@functools.cache
def load(name: str) -> Interface:
    """The description of an interface in this package."""
    return parse(resources.files(__package__).joinpath(f"{name}.varlink").read_text(encoding="utf-8"))
