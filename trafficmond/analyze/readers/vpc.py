"""AWS flow logs (VPCs, transit gateways) as text or JSON: any fields with a header (S3, Athena), or the default format
without one.

Source: https://docs.aws.amazon.com/vpc/latest/userguide/flow-log-records.html. A record is one direction of a flow.
CloudWatch returns the same lines with its own time before them, or as messages in JSON; Athena returns rows of cells,
the first of which may have the names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from trafficmond.analyze.jsonstream import objects
from trafficmond.analyze.rows import Records, one_way_flags, recorded, sent
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import SEPARATORS, Source
from trafficmond.analyze.values import address, count, icmp_ends, is_icmp, moment, port, protocol, unset
from trafficmond.flows.batch import Batch
from trafficmond.model import Action, Direction

TITLE = "AWS VPC flow log"

_DEFAULT = [
    *("version", "account-id", "interface-id", "srcaddr", "dstaddr", "srcport", "dstport", "protocol"),
    *("packets", "bytes", "start", "end", "action", "log-status"),
]
_TGW = [  # https://docs.aws.amazon.com/vpc/latest/tgw/tgw-flow-logs.html
    *("version", "resource-type", "account-id", "tgw-id", "interface-id", "tgw-src-vpc-account-id"),
    *("tgw-dst-vpc-account-id", "tgw-src-vpc-id", "tgw-dst-vpc-id", "tgw-src-subnet-id", "tgw-dst-subnet-id"),
    *("tgw-src-eni", "tgw-dst-eni", "tgw-src-az-id", "tgw-dst-az-id", "tgw-pair-attachment-id", "srcaddr", "dstaddr"),
    *("srcport", "dstport", "protocol", "packets", "bytes", "start", "end", "log-status", "type"),
    *("packets-lost-no-route", "packets-lost-blackhole", "packets-lost-mtu-exceeded", "packets-lost-ttl-expired"),
    *("tcp-flags", "region", "flow-direction", "pkt-src-aws-service", "pkt-dst-aws-service"),
]
_NEEDED = ("srcaddr", "dstaddr", "protocol", "packets", "bytes", "start")
_INSTEAD = (  # if only the second one is there
    ("srcaddr", "pkt-srcaddr"), ("dstaddr", "pkt-dstaddr"), ("start", "@timestamp"), ("start", "end"),
)  # fmt: skip
_SEPARATED = re.compile(r"[\s,;|]+")
_RULED = "+-|=: "  # characters that tables are ruled with
_ALIASES = {  # only the letters, as Athena and CloudWatch write the names
    "accountid": "account-id", "interfaceid": "interface-id", "logstatus": "log-status", "tcpflags": "tcp-flags",
    "flowdirection": "flow-direction", "pktsrcaddr": "pkt-srcaddr", "pktdstaddr": "pkt-dstaddr",
    "sourceaddress": "srcaddr", "destinationaddress": "dstaddr", "sourceport": "srcport",
    "destinationport": "dstport", "numpackets": "packets", "numbytes": "bytes", "starttime": "start", "endtime": "end",
    "account": "account-id", "tgwattachmentid": "interface-id",
}  # fmt: skip
_RECORD = re.compile(  # a record of the default format, anywhere in a line
    r"(?<![\w.-])\d~(?:\d{12}|unknown)~=~(?:=~=~=~=~\d+~\d+~\d+|(?:-~){6}-)~\d+~\d+~[\w-]+~[A-Z]+(?!\w)".replace(
        "~", r"[\s,;|]+"
    ).replace("=", r"[^\s,;|]+")
)
_TGW_RECORD = re.compile(r"(?<![\w.-])\d\s+TransitGateway(?:\s+[^\s\"]+){34}")
_NO_RECORD = ("NODATA", "SKIPDATA")
_BESIDE = re.compile(r"SEARCHEDLOGSTREAMS\s|[bf]/\d+\s|\(\d+ rows?\)")  # lines that `aws logs`, psql write besides


def lacks(sample: Sample) -> Lacks:
    if any(_RECORD.search(line) or _TGW_RECORD.search(line) for line in sample.lines):
        return []
    if sample.objects:
        answers = {str(found["field"]) for found in sample.objects if "field" in found and _FIELD.issuperset(found)}
        return sample.object_lacks(
            _NEEDED, lambda found: _filled(answers or map(str, _cells(found) or [*_events(found), ()][0]))
        )
    return sample.header_lacks(_NEEDED, lambda line: _filled(_names(line)))


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """RECORD rows, one for each record; records with NODATA or SKIPDATA are skipped."""

    def take(fields: Mapping[str, Any], records: Records) -> None:
        if fields.get("log-status") in _NO_RECORD or fields.get("srcaddr") == "-":
            source.note("records without data (NODATA, SKIPDATA) were skipped")
        else:
            _add(fields, records, stats)

    values = _of_json(source) if Sample(source.head).objects else _of_text(source)
    return recorded(values, take, source, "no record")


def _of_text(source: Source) -> Iterator[tuple[int, Mapping[str, Any]]]:
    names: list[str] = _DEFAULT
    for number, line in source.lines():
        text = line.decode("utf-8", "replace").strip()
        values = _split(text)
        if len(values) == len(names) and names is _DEFAULT and values[0].isdigit():
            yield number, dict(zip(names, values, strict=True))
            continue
        if not values or not text.strip(_RULED):
            continue
        if not any(value.isdigit() for value in values) and set(_filled(_names(text))) >= set(_NEEDED):
            names = _names(text)
            continue
        if len(values) == len(names) + 1 and "T" in values[0]:  # CloudWatch's time
            values = values[1:]
        found = _default_records(text) if names is _DEFAULT else []  # `--output text` puts many in one line
        for record in found:
            yield number, record
        if found or not set(_MESSAGES).isdisjoint(values):  # the names of columns, if whole messages were exported
            continue
        if len(values) == len(names):
            yield number, dict(zip(names, values, strict=True))
        elif not _BESIDE.match(text):
            source.parse_errors.line(source.name, number, f"{len(values)} fields instead of {len(names)}", line)


def _default_records(text: str) -> list[Mapping[str, Any]]:
    """The records of the default format in a text."""
    for names, pattern in ((_DEFAULT, _RECORD), (_TGW, _TGW_RECORD)):
        if found := pattern.findall(text):
            return [dict(zip(names, _SEPARATED.split(record), strict=True)) for record in found]
    return []


def _of_json(source: Source) -> Iterator[tuple[int, Mapping[str, Any]]]:
    answer: dict[str, Any] = {}  # the answer to a query: the fields of one record, an object for each
    names: list[str] = []
    for number, found in objects(source):
        if cells := _cells(found):
            row = [_name(str(cell)) for cell in cells]
            if set(_filled(row)).issuperset(_NEEDED):
                names = row
            elif len(cells) == len(names):
                yield number, dict(zip(names, cells, strict=True))
            else:
                source.parse_errors.line(source.name, number, f"{len(cells)} cells instead of {len(names)}", str(cells))
            continue
        if _FIELD.issuperset(found) and found.get("field") != "@message":
            name = _name(str(found.get("field")))
            if answer and (name in answer or name == _LAST_FIELD):
                if not answer.keys() <= _OF_CLOUDWATCH:  # else there is a whole message, too
                    yield number, answer
                answer = {}
            if name != _LAST_FIELD:
                answer[name] = found.get("value")
            continue
        for inner in _events(found):
            text = next((inner[name] for name in _MESSAGES if isinstance(inner.get(name), str)), None)
            texts = (value for value in map(str, inner.values()) if len(value) >= _RECORD_LEAST)
            if records := [one for value in texts for one in _default_records(value)]:
                yield number, records[0]
            elif text is None or "srcaddr" in inner:
                yield number, {_name(name): value for name, value in inner.items()}
            elif found.get("messageType") == "CONTROL_MESSAGE":
                source.note("CloudWatch's test messages were skipped")
            else:
                source.parse_errors.line(source.name, number, "no record of the default format", text)
    if answer:
        yield number, answer


def _cells(found: Mapping[str, Any]) -> list[Any]:
    """A row of Athena's answer (`aws athena get-query-results`); the first one may have the names."""
    row = found.get("Data")
    if not isinstance(row, list):
        return []
    return [cell.get("VarCharValue") if isinstance(cell, Mapping) else None for cell in row]


def _events(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The records inside that of a log shipper (Elasticsearch, Splunk, Filebeat), or those that a subscription
    delivers: with their fields if these have AWS's names, else with their message."""
    events = found.get("logEvents")
    inner = []
    for event in events if isinstance(events, list) else [found]:
        if isinstance(event, Mapping):
            parts = [(name, event[name]) for name in _SHIPPED if isinstance(event.get(name), Mapping)]
            inner.append(next((part for name, part in parts if name != _FOUND or "srcaddr" in part), event))
    return inner


_RECORD_LEAST = 40  # characters, with the shortest addresses
_FIELD = frozenset(("field", "value"))
_OF_CLOUDWATCH = frozenset(("@timestamp", "@log", "@logstream", "@ingestiontime"))
_LAST_FIELD = "@ptr"
_MESSAGES = ("message", "@message", "value", "_raw", "original")
_FOUND = "extractedFields"
_SHIPPED = ("_source", "result", "event", _FOUND)


def _add(fields: Mapping[str, Any], records: Records, stats: RunStats) -> None:
    values = fields
    if not all(one in fields for one, _ in _INSTEAD):
        instead = {one: fields[other] for one, other in reversed(_INSTEAD) if one not in fields and other in fields}
        values = {**fields, **instead}
    if missing := [name for name in _NEEDED if unset(values.get(name))]:
        raise ValueError(f"{', '.join(missing)} missing")
    start = moment(values["start"])
    all_flags = None if unset(values.get("tcp-flags")) else count(values["tcp-flags"]) & 0xFF
    span = start, start if unset(values.get("end")) else moment(values["end"])
    src, dst = address(str(values["srcaddr"])), address(str(values["dstaddr"]))
    proto = protocol(str(values["protocol"]))
    ports = icmp_ends(None) if is_icmp(proto) else (port(values.get("srcport")), port(values.get("dstport")))
    out = sent(proto, src.family, count(values["packets"]), count(values["bytes"]), link=0)
    flags = (*one_way_flags(all_flags, ports, proto, src.family, out), 0, 0)
    action = Action.DROP if values.get("action") == "REJECT" else Action.MONITOR
    way = Direction.EGRESS if values.get("flow-direction") == "egress" else Direction.INGRESS
    ifindex = stats.ifindex(str(values.get("interface-id") or ""))
    records.add(src, dst, ports, proto, span, out, flags=flags, action=action, direction=way, ifindex=ifindex)


def _split(text: str) -> list[str]:
    for separator in SEPARATORS:
        if separator in text:
            return [value.strip(' "') for value in text.split(separator)]
    return text.split()


def _names(text: str) -> list[str]:
    return [_name(name) for name in _split(text)]


@lru_cache(maxsize=1024)
def _name(name: str) -> str:
    """The name of a field in AWS's documentation; Athena, Parquet and CloudWatch write it differently."""
    plain = name.strip('"${} ').lower().replace("_", "-")
    return _ALIASES.get(plain.replace("-", ""), plain)


def _filled(names: Iterable[str]) -> list[str]:
    found = [_name(name) for name in names]
    return found + [one for one, other in _INSTEAD if other in found]
