"""The record of an event: columns of an EVENT batch made into text, a field at a time."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from trafficmond.flows.batch import Batch, named
from trafficmond.flows.community_id import community_ids, flow_hashes
from trafficmond.flows.compiled import addresses
from trafficmond.flows.events import Kind
from trafficmond.flows.names import Names
from trafficmond.flows.owners import OF_UNITS, Owner
from trafficmond.model import Action, Direction, Threat
from trafficmond.protocols import endpoint, protocol_name
from trafficmond.verdict import action_of, reason_of, reason_text

FIELDS = (
    "timestamp",  # epoch seconds, whole
    "timestamp_iso",  # the same with milliseconds
    "src_ip",
    "dst_ip",
    "src_port",
    "dst_port",
    "protocol",
    "protocol_num",
    "packet_size",
    "action",
    "interface",
    "flow_hash",
    # The original's record ends here.
    "event",
    "direction",
    "rule",
    "reason",
    "vlan",
    "community_id",
    # The unit of this host that it belongs to; null if unknown.
    "unit",
    "cgroup",
    "uid",
    "would",  # the action of the rule in shadow, if one matches the packet
    "would_rule",  # and its name
    # The process of that unit; null if unknown.
    "process",
    "pid",
)
NUMBERS = frozenset(("timestamp", "src_port", "dst_port", "protocol_num", "packet_size", "vlan"))

_ACTIONS = {Action.MONITOR: "LOG", Action.DROP: "DROP", Action.ALLOW: "ALLOW", Action.LIMIT: "LIMIT"}


def rows(batch: Batch, names: Names, quote: Callable[[str], str] = str, nothing: str = "") -> Iterable[tuple[Any, ...]]:
    """One tuple an event, in the order of FIELDS; numbers as int, the rest as str.

    `quote` is applied to names that people choose (interfaces, rules and units); no other field needs quoting in any
    format. `nothing` stands for unknown values.
    """
    owners = batch["owner"].tolist()

    def of_owner(at: int) -> Sequence[Any]:
        return named(owners, functools.partial(_owner_field, names, at, quote, nothing))

    milliseconds = np.rint(batch["timestamp"] * 1000).astype(np.int64)
    protocols = batch["proto"].tolist()
    columns: tuple[Sequence[Any], ...] = (
        (milliseconds // 1000).tolist(),
        np.datetime_as_string(milliseconds.astype("M8[ms]"), timezone="UTC").tolist(),
        *(addresses(batch[f"{side}_hi"], batch[f"{side}_lo"], batch["family"]) for side in ("src", "dst")),
        batch["sport"].tolist(),
        batch["dport"].tolist(),
        named(protocols, protocol_name),
        protocols,
        batch["packet_size"].tolist(),
        named(action_of(batch["verdict"]).tolist(), lambda action: _ACTIONS[Action(action)]),
        named(batch["ifindex"].tolist(), lambda ifindex: quote(_encodable(names.interface(ifindex)))),
        flow_hashes(batch),
        named(batch["kind"].tolist(), lambda kind: str(Kind(kind))),
        named(batch["direction"].tolist(), lambda direction: str(Direction(direction))),
        named(batch["verdict"].tolist(), lambda verdict: quote(_encodable(names.rule(verdict)))),
        named(reason_of(batch["verdict"]).tolist(), reason_text),
        batch["vlan"].tolist(),
        community_ids(batch),
        *(of_owner(at) for at in range(len(OF_UNITS))),
        *_would(batch, names, quote),
        *(of_owner(at) for at in range(len(OF_UNITS), len(Owner._fields))),
    )
    return zip(*columns, strict=True)


def _would(batch: Batch, names: Names, quote: Callable[[str], str]) -> list[Sequence[str]]:
    words = batch["verdict"].tolist()
    known = {word: names.would(word) or ("", "") for word in set(words)}
    called = {word: (would, quote(_encodable(rule))) for word, (would, rule) in known.items()}
    return [[called[word][at] for word in words] for at in (0, 1)]


def parties(event: Mapping[str, Any]) -> str:
    """The endpoints: "TCP 192.0.2.1:1024 > 192.0.2.2:443", "ICMP 8/0 192.0.2.1 > 192.0.2.2"."""
    protocol = event["protocol"]
    source, target = (endpoint(event[f"{side}_ip"], event[f"{side}_port"], protocol) for side in ("src", "dst"))
    what = f"{protocol} {event['src_port']}/{event['dst_port']}" if protocol in ("ICMP", "ICMPv6") else protocol
    return f"{what} {source} > {target}"


def threat_record(threat: Threat, state: str) -> dict[str, Any]:
    """A threat as logged; `event` is "threat", so that readers of events skip it."""
    return {
        "timestamp": math.floor(threat.last_seen),
        "timestamp_iso": iso_time(threat.last_seen),
        "event": "threat",
        **threat.row(),
        "evidence": _plain(threat.evidence),
        "state": state,
    }


def of_state(state: str) -> str:
    """What begins the line of a threat that is not new."""
    return "" if state == "opened" else f"{state}: "


def iso_time(seconds: float) -> str:
    """Epoch seconds as UTC with milliseconds: 2024-11-29T10:00:00.000Z."""
    whole = datetime.fromtimestamp(round(seconds * 1000) / 1000, UTC)
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _owner_field(names: Names, at: int, quote: Callable[[str], str], nothing: str, owner: int) -> str:
    value = names.owner(owner)[at]
    if value is None:
        return nothing
    return quote(value) if isinstance(value, str) else str(value)


def _plain(value: Any) -> Any:
    """The value for JSON: numpy's numbers as Python's, infinities and nan as null, the rest as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def _encodable(name: str) -> str:
    # Names from the kernel need not be UTF-8.
    return name.encode("utf-8", "backslashreplace").decode()
