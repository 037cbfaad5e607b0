"""Random packets against random rules in the data path, each of which is judged as the rules' own words say."""

import random
import socket
import time
from collections import Counter

from judging import SCTP, Asked, Reference, random_packet, random_tables
from rig import Rig
from tmlab.packets import TCP, UDP

from trafficmond.model import Action, Direction, Reason
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table

_BATCH = 10_000
_SHOT = 2
_OWN = {4: bytes([192, 0, 2, 200]), 6: socket.inet_pton(socket.AF_INET6, "2001:db8:ffff::200")}


def judge(loader: str, count: int) -> None:
    """At least `count` packets against 500 rules nested four deep and deeper, both families and directions. Raises
    AssertionError for the first that is judged otherwise than by the rules' words."""
    rng = random.Random(11)
    now = time.time()
    ended, lasting = now - 50, now + 10_000
    tables = random_tables(rng, 500, ended, lasting)
    policy = make_policy(Files(), default=Action.DROP, runtime=tables)
    ids = RuleIds().number(policy.rules, now).numbers
    with Rig(loader, capacity=65536) as rig:
        rig.datapath.clock.calibrate()
        compiled = compile_table(policy, ids, now - 100, rig.datapath.clock.to_jiffies)
        rig.datapath.tables.put(compiled.words)
        decided: Counter[int | None] = Counter()
        done = 0
        while done < count:
            for direction, program in ((Direction.INGRESS, "tm_xdp"), (Direction.EGRESS, "tm_tc")):
                reference = Reference(tables, str(direction), ended)
                packets = [random_packet(rng, tables) for _ in range(_BATCH)]
                outward = direction is Direction.EGRESS
                frames = [each.frame(_OWN[each.version], at, outward) for at, each in enumerate(packets, 1)]
                rig.forget()
                verdicts = rig.run(frames, program)
                words = _words(rig, outward)
                for at, (packet, verdict) in enumerate(zip(packets, verdicts, strict=True), 1):
                    number = reference.decides(packet)
                    decided[number] += 1
                    word = words.get(_key(packet, at)) or set()
                    _check(tables, ids.tolist(), number, direction, verdict == (_SHOT if outward else 1), word, packet)
                done += _BATCH
    assert len(decided) > 300, "few of the rules decide anything"
    assert sum(decided[at] for at, table in enumerate(tables) if "ports" in table) > done // 4


def _key(packet: Asked, at: int) -> tuple[int, ...]:
    """What tells a packet's record apart: its number for a source port, or what has that place."""
    if packet.fragment or packet.proto not in (TCP, UDP, SCTP):
        at = 0 if packet.fragment else packet.number or 0
    return packet.version, packet.address, packet.proto, at


def _words(rig: Rig, outward: bool) -> dict[tuple[int, ...], set[int]]:
    found: dict[tuple[int, ...], set[int]] = {}
    end = "dst" if outward else "src"
    for row in rig.datapath.read_ledger():
        version = int(row["family"])
        address = int(row[f"{end}_hi"]) << 64 | int(row[f"{end}_lo"])
        address = address & 0xFFFFFFFF if version == 4 else address
        key = version, address, int(row["proto"]), int(row["sport"])
        found.setdefault(key, set()).add(int(row["verdict"]))
    return found


def _check(
    tables: list[dict[str, object]],
    ids: list[int],
    number: int | None,
    direction: Direction,
    dropped: bool,
    words: set[int],
    packet: Asked,
) -> None:
    """The record that the packet was booked in says what the rules do, and so does the packet's fate."""
    action = tables[number]["action"] if number is not None else ("drop" if direction is Direction.INGRESS else "allow")
    rule = ids[number] if number is not None else 0
    reason = Reason.RULE if number is not None else Reason.DEFAULT
    if action == "limit":
        wanted = Action.DROP << 28 | Reason.LIMIT << 24 | rule if dropped else Action.ALLOW << 28 | reason << 24 | rule
    else:
        assert dropped == (action == "drop"), (packet, tables[number] if number is not None else "default", words)
        wanted = Action.parse(str(action)) << 28 | reason << 24 | rule
    assert wanted in words, (packet, number, hex(wanted), [hex(word) for word in words])
