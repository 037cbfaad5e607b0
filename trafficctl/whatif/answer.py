"""The result of a comparison as data, with the fields of -o json."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from trafficctl.whatif.flows import Reader
from trafficctl.whatif.run import LIVE, Before
from trafficctl.whatif.tally import Change, Pick, Tally
from trafficmond import services
from trafficmond.npt import I64
from trafficmond.policy import judge
from trafficmond.policy.load import Policy
from trafficmond.policy.prefixes import key_text
from trafficmond.verdict import action_of

_MOST_ROWS = 1000  # rows of one grouping in the data: the largest
_FLOW = (
    *("first_seen", "last_seen", "src_ip", "dst_ip", "src_port", "dst_port", "protocol", "packets", "bytes"),
    *("reply_packets", "reply_bytes", "interface", "direction"),
)


def answer(
    before: Before, tally: Tally, reader: Reader, live: Sequence[Mapping[str, Any]], since: float
) -> dict[str, Any]:
    changes = {name: _change(before, change, reader, live) for name, change in tally.changes.items()}
    return {"differs": tally.differs, "since": since, **_sums(tally.judged), **changes}


def _change(before: Before, change: Change, reader: Reader, live: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    change.peers.combine()
    ways = {pair: _decided(before, *pair) for pair in change.rules}
    peers = change.peers
    order = np.argsort(-peers.sums[:, 2], kind="stable")[:_MOST_ROWS].tolist()
    sources = [
        {"source": key_text(int(peers.hi[i]), int(peers.lo[i]), 6 if peers.six[i] else 4)} | _sums(peers.sums[i])
        for i in order
    ]
    return {
        **_sums(change.sums),
        "rules": _largest(change.rules, ways.__getitem__),
        "sources": sources,
        "more_sources": len(peers.sums) - len(order),
        "flows_of_others": peers.others,
        "services": _largest(change.services, lambda place: {"service": _service(place)}),
        "largest": _named(before, change.largest, reader, live),
        "latest": _named(before, change.latest, reader, live),
    }


def _largest(groups: Mapping[Any, I64], describe: Callable[[Any], Mapping[str, Any]]) -> list[dict[str, Any]]:
    rows = [{**describe(key), **_sums(sums)} for key, sums in groups.items()]
    return sorted(rows, key=lambda row: (-row["flows"], -row["bytes"]))[:_MOST_ROWS]


def _sums(sums: I64) -> dict[str, int]:
    return dict(zip(("flows", "packets", "bytes", "answered"), map(int, sums), strict=True))


def _service(place: int) -> str:
    return next(iter(services.text(((place, place),))), "fragments")


def _decided(before: Before, was: int, then: int) -> dict[str, Any]:
    return _rule(before.then.policy, then, "") | _rule(before.now.policy, was, "before_")


def _rule(policy: Policy, word: int, prefix: str) -> dict[str, Any]:
    at = judge.rule_at(policy, word)
    rule = policy.rules[at] if at >= 0 else None
    return {
        f"{prefix}rule": judge.names(policy, [word])[0],
        f"{prefix}action": ("allow", "monitor", "drop", "limit")[int(action_of(word))],
        f"{prefix}origin": rule.source if rule else None,
    }


def _named(
    before: Before, picks: Sequence[Pick], reader: Reader, live: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    rows: dict[tuple[str, int], Mapping[str, Any]] = {}
    for table in {pick.table for pick in picks}:
        wanted = [pick.row for pick in picks if pick.table == table]
        found = {row: live[row - 1] for row in wanted} if table == LIVE else reader.named(table, wanted)
        rows |= {(table, row): found[row] for row in found}
    return [
        {name: rows[place].get(name) for name in _FLOW} | _decided(before, pick.before, pick.then)
        for pick in picks
        if (place := (pick.table, pick.row)) in rows
    ]
