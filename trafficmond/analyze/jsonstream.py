"""JSON objects from a stream, however they are laid out: one a line, in an array, or over many lines."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from trafficmond.analyze.source import Source

OBJECT_MAX = 1 << 20
"""Characters of the largest object; a longer one is damage."""

_BETWEEN = re.compile(r"[\s,\[\]]*")
_AT_THE_END = 16  # an error so close to the end of what was read may only mean that more is needed
_SHOWN = 120


def objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line on which it begins, object) for each. What is none is counted as damage, and reading goes on with
    the next line."""
    decode = json.JSONDecoder().raw_decode
    text = codecs.getincrementaldecoder("utf-8")("replace")
    buffer, at, line, final = "", 0, 1, False
    skipping = False  # to the end of a line that was given up

    while True:
        start = at
        if not skipping:
            match = _BETWEEN.match(buffer, at)
            start = match.end() if match else at
            line += buffer.count("\n", at, start)
            at = start
        if start >= len(buffer) or skipping:
            newline = buffer.find("\n", at) if skipping else -1
            if newline >= 0:
                at, skipping = newline, False
                continue
            if final:
                return
            data = source.read()
            final = not data
            buffer, at = text.decode(data, final), 0
            continue
        try:
            value, end = decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if not final and len(buffer) - start < OBJECT_MAX and _unfinished(error, len(buffer)):
                data = source.read()
                final = not data
                buffer, at = buffer[start:] + text.decode(data, final), 0
                continue
            source.damage.line(source.name, line, "not JSON", buffer[start : start + _SHOWN].split("\n")[0])
            skipping = True
            continue
        if isinstance(value, dict):
            yield line, value
        else:
            source.damage.line(source.name, line, "not a JSON object", buffer[start : start + _SHOWN].split("\n")[0])
        line += buffer.count("\n", start, end)
        at = end


def _unfinished(error: Exception, size: int) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > size - _AT_THE_END


def first_object(head: bytes) -> dict[str, Any] | None:
    """The object that a file begins with, if it begins with one (perhaps as the first of an array) and it is whole."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff")
    match = _BETWEEN.match(text)
    start = match.end() if match else 0
    if not text.startswith("{", start):
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def looks_like(head: bytes, *keys: str) -> bool:
    """Whether a file begins with an object that has all the keys.

    Where the first object is damaged, the first line that holds a whole one decides.
    """
    found = first_object(head)
    if found is None and head.lstrip()[:1] in (b"{", b"["):
        found = next(filter(None, map(first_object, head.splitlines()[1:200])), None)
    return found is not None and all(key in found for key in keys)
