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

_BETWEEN = re.compile(r"[\s,\[\]\0\x1e\ufeff]*")
_WRAPPER = re.compile(r'\s*\{\s*"(?:events|Records|results)"\s*:\s*\[')
_AT_THE_END = 16  # an error so close to the end of what was read may only mean that more is needed
_SHOWN = 120
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)  # NaN is what pandas writes for what is missing: null


def objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line on which it begins, object) for each. What is none is counted as damage, and reading goes on with
    the next line. The objects of a list that is all of an object (`{"events": [...], ...}`) are taken out of it; so
    are those that a shipper put into its own, if the source is `enveloped`."""
    enveloped = source.enveloped
    decode = _DECODER.raw_decode
    text = codecs.getincrementaldecoder("utf-8")("replace")
    data = source.read()
    buffer, at, line, final = text.decode(data), 0, 1, not data
    skipping = False  # to the end of a line that was given up
    wrapper = _WRAPPER.match(buffer)
    if wrapper:
        at = wrapper.end()
        line += buffer.count("\n", 0, at)

    while True:
        start = at
        if buffer.startswith("\n{", at) and not skipping:  # as most logs go on
            at = start = at + 1
            line += 1
        elif not skipping:
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
        if wrapper and buffer[start] in '"}':  # the list has ended, and what else the object holds follows
            return
        if enveloped and buffer[start] != "{":
            newline, brace = buffer.find("\n", start), buffer.find("{", start)
            if newline < 0 and brace < 0 and not final and len(buffer) - start < OBJECT_MAX:
                data = source.read()
                final = not data
                buffer, at = buffer[start:] + text.decode(data, final), 0
                continue
            if brace >= 0 and (newline < 0 or brace < newline):
                start = brace
        try:
            value, end = decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if not final and len(buffer) - start < OBJECT_MAX and _unfinished(error, len(buffer)):
                data = source.read()
                final = not data
                buffer, at = buffer[start:] + text.decode(data, final), 0
                continue
            source.parse_errors.line(source.name, line, "not JSON", _shown(buffer, start))
            skipping = True
            continue
        if isinstance(value, dict):
            yield line, (inside(value) or value) if enveloped else value
        else:
            source.parse_errors.line(source.name, line, "not a JSON object", _shown(buffer, start))
            skipping = True
        if buffer.find("\n", start, end) >= 0:  # much quicker than to count none
            line += buffer.count("\n", start, end)
        at = end


def inside(found: dict[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """The record that a shipper put into its own, as an object or as text; None if there is none."""
    for name in _ENVELOPES:
        inner = found.get(name)
        if type(inner) is str and (at := inner.find("{")) >= 0:
            try:
                inner, _ = _DECODER.raw_decode(inner, at)
            except (ValueError, RecursionError):
                continue
        if type(inner) is dict and inner:
            return (inside(inner, depth + 1) if depth < _ENVELOPES_MAX else None) or inner
    return None


_ENVELOPES = ("message", "_raw", "original", "log", "_source", "result", "event")
"""Where Filebeat and Fluentd, Splunk, ECS, Docker, Elasticsearch and Splunk's HEC put the record of another."""
_ENVELOPES_MAX = 2  # such as lie in each other


def first_objects(head: bytes, most: int, *, enveloped: bool = False) -> list[dict[str, Any]]:
    """The first whole objects, at most `most`, of what a file begins with; what is damaged is passed over."""
    text = head.decode("utf-8", "replace")
    wrapper = _WRAPPER.match(text)
    at = wrapper.end() if wrapper else 0
    decode = _DECODER.raw_decode
    found: list[dict[str, Any]] = []
    for _ in range(_TRIES):
        match = _BETWEEN.match(text, at)
        at = match.end() if match else at
        if enveloped and not text.startswith("{", at):
            newline = text.find("\n", at)
            at = max(at, text.find("{", at, newline if newline >= 0 else len(text)))
        try:
            value, end = decode(text, at) if text.startswith("{", at) else (None, at)
        except (ValueError, RecursionError):
            value, end = None, at
        if isinstance(value, dict):
            found.append((inside(value) or value) if enveloped else value)
            at = end
        else:
            at = text.find("\n", at)
        if at < 0 or at >= len(text) or len(found) == most:
            break
    return found


_TRIES = 200


def _shown(buffer: str, start: int) -> str:
    return buffer[start : start + _SHOWN].split("\n")[0]


def _unfinished(error: Exception, size: int) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > size - _AT_THE_END
