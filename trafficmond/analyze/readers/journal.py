"""The systemd journal as `journalctl -o json` exports it: the daemon's events among all other entries.

An event in the journal is one packet of many: the first of a flow, or a sample while the flow continues. Nothing is
scaled up; flows.db has all packets.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from trafficmond.analyze.events import EventReader
from trafficmond.analyze.jsonstream import inside, objects
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "systemd journal (JSON)"

EVENT_ID = "30fb56ddb22d4063812a297a1c61dd63"  # MESSAGE_ID of an event: sinks.messages.EVENT
NUMBERS = frozenset(("timestamp", "src_port", "dst_port", "protocol_num", "packet_size", "vlan"))  # sinks.record's

_NEEDED = ("__REALTIME_TIMESTAMP", "__CURSOR")
_OF_OTHERS = frozenset(("src_ip", "id.orig_h", "id_orig_h", "class_uid"))
_DIGITS = 20
_PREFIX = "TRAFFICMON_"
_SIZE = f"{_PREFIX}PACKET_SIZE"
_WHOLE = "the journal has events only (the first packets of flows, and samples); flows.db counts all packets"


def lacks(sample: Sample) -> Lacks:
    if any(_is_event(_entry(found)) for found in sample.objects):
        return []
    if any(_OF_OTHERS.intersection(inside(found) or found) for found in sample.objects):  # records of others in MESSAGE
        return None
    return sample.object_lacks(_NEEDED)


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """DELTA rows, one packet for each event."""
    reader = EventReader(source, stats)
    kinds: Counter[str] = Counter()
    for line, entry in ((line, _entry(found)) for line, found in objects(source)):
        if not _is_event(entry):
            source.note("journal entries that are not packets were skipped")
            continue
        event = _event(entry)
        kinds[str(event.get("event"))[:20]] += 1
        reader.add(line, event)
        yield from reader.rows()
    yield from reader.finish()
    for kind, count in kinds.most_common(8):
        source.note(f"events of kind {kind}", count)
    if kinds:
        source.note(_WHOLE, 0)


def _entry(found: Mapping[str, Any]) -> Mapping[str, Any]:
    """The entry with the journal's names, which shippers write in small letters; Filebeat below `journald.custom`."""
    inner = found.get("journald")
    custom = inner.get("custom") if isinstance(inner, Mapping) else found
    if _is_event(found) or not isinstance(custom, Mapping):
        return found
    return {name.rpartition(".")[2].upper(): value for name, value in custom.items()}


def _is_event(entry: Mapping[str, Any]) -> bool:
    """Whether the daemon wrote it for a packet. `journalctl --output-fields` may have left out what kind it is."""
    return entry.get("MESSAGE_ID") == EVENT_ID or _SIZE in entry


def _event(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The event as in the daemon's own logs; a field that is not UTF-8 is a list of bytes."""
    event: dict[str, Any] = {}
    for key, value in entry.items():
        if key.startswith(_PREFIX):
            name = key.removeprefix(_PREFIX).lower()
            text = bytes(value).decode("utf-8", "replace") if isinstance(value, list) and _bytes(value) else value
            number = name in NUMBERS and len(str(text)) <= _DIGITS and str(text).isdecimal()
            event[name] = int(text) if number else text
    if event.get("timestamp_iso"):  # with milliseconds
        event["timestamp"] = event["timestamp_iso"]
    return event


def _bytes(value: list[Any]) -> bool:
    return all(isinstance(item, int) and 0 <= item < 256 for item in value)
