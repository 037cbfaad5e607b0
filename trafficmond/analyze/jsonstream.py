"""Reads JSON objects from a stream in any layout: one a line, in an array, over many lines, in a table's cells."""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trafficmond.analyze.source import BETWEEN, Source

if TYPE_CHECKING:
    from trafficmond.analyze.cells import Table

OBJECT_MAX = 1 << 20
"""Characters of the largest object; a longer one counts as damage."""

_BETWEEN = re.compile(r"[\s,\[\]\0\x1e\ufeff]*")
_NEXT_LIST = r'"(?:events|[Rr]ecords|results?|hits|[Rr]ows|data|items|value|logs|messages)"\s*:\s*\[(?=\s*[\[{\]])'
_WRAPPER = (  # what holds a list of records: of AWS and OCSF; answers of Elasticsearch, Splunk, Athena, ClickHouse, ...
    r'\s*\{\s*(?:"(?:took|_scroll_id|pit_id|responses|preview|queryLanguage|UpdateCount|ResultSet|meta|schema|total'
    rf'|count|@odata\.context|statistics|\$metadata|ResponseMetadata)"[^\0]{{0,4096}}?)?{_NEXT_LIST}'
)
_OBJECT = re.compile(r'"\{\\"|\{(?=\s*["}]|$)')  # the beginning of an object in a line, which may be in quotes (Redis)
_NEXT_MAX = 64  # the longest match of _NEXT_LIST, which may be cut by the end of the buffer
_AT_THE_END = 16  # an error this close to the end of the buffer may only mean that more is needed
_SHOWN = 120
# pandas writes NaN for missing values: null; some shippers do not escape tabs
_DECODER = json.JSONDecoder(parse_constant=lambda _: None, strict=False)


def objects(source: Source) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yields (line number, object) for each object. Anything else counts as damage, and reading continues on the next
    line. If an object only wraps a list (`{"events": [...], ...}`), yields the objects of the list instead; if the
    source is `enveloped`, yields the records inside a log shipper's."""
    enveloped = source.enveloped
    if enveloped and (table := _table(source.head)):
        lines = (line.decode("utf-8", "replace") + "\n" for _, line in source.lines())
        for number, row in table.rows(lines, source.name, source.parse_errors):
            for record in inside_all(row):
                yield number, record
        return
    decode = _DECODER.raw_decode
    text = codecs.getincrementaldecoder("utf-8")("replace")
    final = False

    def more(unread: str) -> str:
        nonlocal final
        data = source.read()
        final = not data
        return unread + text.decode(data, final)

    buffer, at, line = more(""), 0, 1
    skipping = False  # to the end of a line that is ignored
    wrapper = re.match(_WRAPPER, buffer)
    if wrapper:
        at = wrapper.end()
        line += buffer.count("\n", 0, at)

    while True:
        start = at
        if buffer.startswith("\n{", at) and not skipping:  # the layout of most logs
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
            buffer, at = more(""), 0
            continue
        # The list has ended, and the rest of the object follows, or another list.
        if wrapper and buffer[start] in '"}' and not buffer.startswith('"{', start):
            following = re.compile(_NEXT_LIST).search(buffer, start)
            if not following and final:
                return
            at = following.end() if following else max(start, len(buffer) - _NEXT_MAX)
            line += buffer.count("\n", start, at)
            if not following:
                buffer, at = more('"' + buffer[at:]), 0
            continue
        if enveloped and buffer[start] != "{":
            newline = buffer.find("\n", start)
            opening = _OBJECT.search(buffer, start, newline if newline >= 0 else len(buffer))
            if newline < 0 and not opening and not final and len(buffer) - start < OBJECT_MAX:
                buffer, at = more(buffer[start:]), 0
                continue
            if opening:
                start = opening.start()
        try:
            value, end = decode(buffer, start)
        except (ValueError, RecursionError) as error:
            if not final and len(buffer) - start < OBJECT_MAX and _unfinished(error, len(buffer)):
                buffer, at = more(buffer[start:]), 0
                continue
            source.parse_errors.line(source.name, line, "not JSON", _shown(buffer, start))
            skipping = True
            continue
        if enveloped and isinstance(value, str):
            value = _written(value)
        if isinstance(value, dict):
            for record in inside_all(value) if enveloped else (value,):
                yield line, record
        else:
            source.parse_errors.line(source.name, line, "not a JSON object", _shown(buffer, start))
            skipping = True
        if buffer.find("\n", start, end) >= 0:  # much faster than counting none
            line += buffer.count("\n", start, end)
        at = end


def is_list(head: bytes) -> bool:
    """Whether a file that begins like this is one object that only wraps a list."""
    return re.match(_WRAPPER, head.decode("utf-8", "replace")) is not None


def inside(found: dict[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """The record inside a log shipper's record, as an object or as text; None if there is none."""
    for name in _ENVELOPES:
        inner = found.get(name)
        if name == "fields":
            inner = _first_values(inner)
        if type(inner) is str:
            inner = _written(inner)
        elif name in _OFTEN_ITS_OWN and type(inner) is dict and not _is_record(inner):
            inner = inside(inner, depth + 1) if depth < _ENVELOPES_MAX else None
        if type(inner) is dict and inner:
            if depth == _ENVELOPES_MAX or _is_record(inner):
                return inner
            return inside(inner, depth + 1) or inner
    return None


def inside_all(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The record `inside`, or those anywhere else in a log shipper's record, or this itself if there are none."""
    known = inside(found)
    if known is not None:
        return [known]
    if "short_message" in found:  # GELF
        found = {name.removeprefix("_"): value for name, value in found.items()}
    return [found] if _is_record(found) else [*_anywhere(found, 0)] or [found][: len(found)]


def _anywhere(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The records in any list, object or text of JSON."""
    if type(value) is str and (opening := value.lstrip()[:1]) in _OPENING:
        value = _written(value, opening) or _written(value)
    if depth == _DEEPEST:
        return
    if type(value) is list:
        for one in value:
            yield from _anywhere(one, depth + 1)
    elif type(value) is dict:
        if depth and _is_record(value):
            yield value
        else:
            for one in value.values():
                yield from _anywhere(one, depth + 1)


def _is_record(found: dict[str, Any]) -> bool:
    """Whether an object is a record itself. Zeek's `id` has the ends; in ECS an event and a log have another one."""
    ends = found.get("id")
    return not _RECORDS.isdisjoint(found) or (type(ends) is dict and "orig_h" in ends)


def _first_values(found: Any) -> dict[str, Any] | None:
    """The first of each list of values, as a search for fields returns them; other programs may use the key."""
    if type(found) is dict and all(type(values) is list and values for values in found.values()):
        return {field: values[0] for field, values in found.items()}
    return None


def _written(text: str, opening: str = "{") -> Any:
    at = text.find(opening)
    try:
        return _DECODER.raw_decode(text, at)[0] if at >= 0 else None
    except (ValueError, RecursionError):
        return None


_ENVELOPES = (
    *("message", "_raw", "original", "log", "_source", "result", "event", "short_message", "full_message", "line"),
    *("MESSAGE", "jsonPayload", "data", "json", "eve", "body", "msg", "@message", "payload", "fields"),
)
"""Keys under which Filebeat and Fluentd, Splunk, ECS, Docker, Elasticsearch, Splunk's HEC, Graylog, Loki, the journal,
Google Cloud, Wazuh, Logstash, OpenTelemetry, rsyslog, Kafka's connectors and Kibana store the record of another
program."""
_OURS = "TRAFFICMON_SRC_IP"  # in the journal
_OFTEN_ITS_OWN = frozenset(("log", "event", "result", "data", "json", "eve", "msg", "payload"))
"""Keys that shippers also use for fields of their own."""
_RECORDS = frozenset(("event_type", "src_ip", "id.orig_h", "id_orig_h", "uid", "_path", "class_uid", "conn", _OURS))
"""Keys that identify a record itself; inside it no further record is searched."""
_ENVELOPES_MAX = 3  # nested envelopes
_DEEPEST = 12  # lists, objects and texts within each other
_OPENING = ("{", "[")


def first_objects(head: bytes, most: int, *, enveloped: bool = False) -> list[dict[str, Any]]:
    """The first whole objects, at most `most`, at the beginning of a file; damaged parts are ignored."""
    text = head.decode("utf-8", "replace")
    if enveloped and (table := _table(head)):
        rows = table.rows(text.splitlines(keepends=True)[1:], "", None)
        return [record for _, row in itertools.islice(rows, most) for record in inside_all(row)]
    wrapper = re.match(_WRAPPER, text)
    at = wrapper.end() if wrapper else 0
    decode = _DECODER.raw_decode
    found: list[dict[str, Any]] = []
    for _ in range(_TRIES):
        match = _BETWEEN.match(text, at)
        at = match.end() if match else at
        if enveloped and not text.startswith("{", at):
            newline = text.find("\n", at)
            opening = _OBJECT.search(text, at, newline if newline >= 0 else len(text))
            at = opening.start() if opening else at
        try:
            value, end = decode(text, at) if text.startswith(_STARTS[: 1 + enveloped], at) else (None, at)
            value = _written(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            value, end = None, at
        if isinstance(value, dict):
            found += [one for one in (inside_all(value) if enveloped else (value,)) if not _is_columns(one)]
            at = end
        else:
            at = text.find("\n", at)
        if at < 0 or at >= len(text) or len(found) >= most:
            break
    return found


_TRIES = 200
_STARTS = ("{", '"')


def _is_columns(found: dict[str, Any]) -> bool:
    """Whether an object has columns of values (pandas, ClickHouse); a record has single ones, or lists of one each, as
    Kibana shows the fields of an event."""
    one = 1 if "@timestamp" in found else 0
    return len(found) > 1 and all(
        (type(value) is dict and not _is_record(value)) or (type(value) is list and len(value) > one)
        for value in found.values()
    )


def _table(head: bytes) -> Table | None:
    """The layout of a file that is no stream of JSON but has a line with the names of columns."""
    if head.lstrip(BETWEEN)[:1] in (b"{", b"[", b""):
        return None
    from trafficmond.analyze.cells import Table  # import csv only if it is needed

    with contextlib.suppress(ValueError):
        return Table(head.decode("utf-8", "replace"))
    return None


def _shown(buffer: str, start: int) -> str:
    return buffer[start : start + _SHOWN].split("\n")[0]


def _unfinished(error: Exception, size: int) -> bool:
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > size - _AT_THE_END
