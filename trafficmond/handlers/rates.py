"""Rows for live screens: the current rates by flow, host, unit and interface. Pure."""

from collections.abc import Callable
from typing import Any

import numpy as np

from trafficmond import choice, networks
from trafficmond.control.call import Row
from trafficmond.detect.base import address
from trafficmond.flows.batch import Batch, Column, address_text, within
from trafficmond.flows.names import Names
from trafficmond.flows.owners import of_unit
from trafficmond.flows.recent import Floats, Rates, Recent, by_host, by_label
from trafficmond.model import LIVE_WINDOWS_S, Action
from trafficmond.protocols import protocol_name, protocol_number
from trafficmond.verdict import action_of

_PACKETS, _BYTES = 0, 1


def busiest(
    recent: Recent, now: float, names_of: Callable[[Batch], Names], sort: str, window_s: int, match: str, limit: int
) -> Row:
    """The busiest `flows` (`LiveFlow`), `units` (`LiveUnit`) and `hosts` (`LiveHost`), and the `rates` of all that
    match. `sort` is one of model.LIVE_SORTS, `window_s` one of LIVE_WINDOWS_S. With a limit of 0 there are only the
    total rates, which need no look at flows."""
    if not limit and not match.strip():
        return {"flows": [], "units": [], "hosts": [], "rates": rate_rows(recent.total(), 0), "moving": None}
    rows, rates = recent.flows()
    names = names_of(rows)
    chosen = np.flatnonzero(_matching(rows, match, names))
    rows, rates = rows[chosen], Rates(rates.values[:, :, chosen])
    window = 1 + LIVE_WINDOWS_S.index(window_s)
    order = np.argsort(-_measure(rates, sort, window, rows["bytes"] + rows["reply_bytes"]), kind="stable")
    hosts, counts, host_rates = by_host(rows, rates)
    host_order = np.argsort(-_measure(host_rates, sort, window, counts), kind="stable")
    return {
        "flows": [_flow(rows[at], rates, at, now, names) for at in order[:limit].tolist()],
        "units": _units(rows, rates, names, sort, window)[:limit],
        "hosts": [_host(hosts[at], int(counts[at]), host_rates, at) for at in host_order[:limit].tolist()],
        "rates": rate_rows(Rates(rates.values.sum(axis=2, keepdims=True)) if match.strip() else recent.total(), 0),
        "moving": len(rows),
    }


def _units(rows: Batch, rates: Rates, names: Names, sort: str, window: int) -> list[Row]:
    """The rows of units, the busiest first; none if flows have no owners."""
    if not names.owners:
        return []
    numbers, which = np.unique(rows["owner"], return_inverse=True)
    units, named = np.unique([names.owner(number).unit or "" for number in numbers.tolist()], return_inverse=True)
    _, counts, sums = by_label(rows, rates, named[which])
    order = np.argsort(-_measure(sums, sort, window, counts), kind="stable").tolist()
    return [
        {"unit": str(units[at]), "flows": int(counts[at]), **_at_present(sums, at), "rates": rate_rows(sums, at)}
        for at in order
        if units[at]
    ]


def rate_rows(rates: Rates, at: int) -> list[Row]:
    """`LiveRate` rows, one for each window."""
    sent, received = [[side(unit)[1:, at] for unit in (_PACKETS, _BYTES)] for side in (rates.sent, rates.received)]
    return [
        {
            "window_s": seconds,
            "sent_packets_per_s": float(sent[_PACKETS][index]),
            "sent_bytes_per_s": float(sent[_BYTES][index]),
            "received_packets_per_s": float(received[_PACKETS][index]),
            "received_bytes_per_s": float(received[_BYTES][index]),
        }
        for index, seconds in enumerate(LIVE_WINDOWS_S)
    ]


def _measure(rates: Rates, sort: str, window: int, total: Column) -> Floats:
    unit = _PACKETS if sort == "packets" else _BYTES
    sent, received = rates.sent(unit)[window], rates.received(unit)[window]
    if sort == "total":
        return total.astype(np.float64)
    return np.asarray({"sent": sent, "received": received}.get(sort, sent + received))


def _flow(row: Any, rates: Rates, at: int, now: float, names: Names) -> Row:
    owner = names.owner(int(row["owner"]))
    return {
        "src_ip": address(row, "src"),
        "dst_ip": address(row, "dst"),
        "src_port": int(row["sport"]),
        "dst_port": int(row["dport"]),
        "protocol": protocol_name(int(row["proto"])),
        "interface": names.interface(int(row["ifindex"])),
        "action": str(Action(action_of(int(row["verdict"])))),
        "packets": int(row["packets"] + row["reply_packets"]),
        "bytes": int(row["bytes"] + row["reply_bytes"]),
        "sent_packets": int(row["packets"]),
        "sent_bytes": int(row["bytes"]),
        "received_packets": int(row["reply_packets"]),
        "received_bytes": int(row["reply_bytes"]),
        **_at_present(rates, at),
        "rates": rate_rows(rates, at),
        **{name: getattr(owner, name) for name in ("unit", "process", "pid")},
        "age_s": max(0.0, now - float(row["first"])),
    }


def _host(host: Any, flows: int, rates: Rates, at: int) -> Row:
    named = address_text(int(host["hi"]), int(host["lo"]), int(host["family"]))
    return {"address": named, "flows": flows, **_at_present(rates, at), "rates": rate_rows(rates, at)}


def _at_present(rates: Rates, at: int) -> Row:
    return {
        "packets_per_s": float(rates.sent(_PACKETS)[0, at] + rates.received(_PACKETS)[0, at]),
        "bytes_per_s": float(rates.sent(_BYTES)[0, at] + rates.received(_BYTES)[0, at]),
    }


def _matching(flows: Batch, match: str, names: Names) -> Column:
    """A mask of the flows that match a port, a protocol, an address, a prefix or a unit; all for an empty text."""
    wanted = choice.of_text(match)
    if wanted.port is not None:
        return np.asarray((flows["sport"] == int(wanted.port)) | (flows["dport"] == int(wanted.port)))
    if wanted.proto is not None:
        return np.asarray(flows["proto"] == protocol_number(wanted.proto))
    if wanted.unit is not None:
        is_it = of_unit(wanted.unit)
        return np.isin(flows["owner"], [n for n in np.unique(flows["owner"]) if is_it(names.owner(int(n)).unit)])
    if wanted.host is None:
        return np.ones(len(flows), bool)
    network = networks.parse(wanted.host)
    found = np.zeros(len(flows), bool)
    for side in ("src", "dst"):
        found |= within(flows, side, network)
    return found
