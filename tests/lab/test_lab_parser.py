"""One parser, two builds: the kernel's and the host's agree on every capture and on packets that lie in every field.

TRAFFICMON_FUZZ says how many mutated packets (20,000 where it is not set), TRAFFICMON_SEED from which seed.
"""

from __future__ import annotations

import os
import random
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from inside import HostParser, wrapped
from rig import LONGEST, SHORTEST, Rig, host_account
from tmlab import read_capture
from tmlab.packets import MACS, tcp, udp

pytestmark = pytest.mark.root

PCAPS = Path(__file__).parents[3] / "shared" / "data" / "pcaps"
MUTATED = int(os.environ.get("TRAFFICMON_FUZZ", "20000"))
SEED = int(os.environ.get("TRAFFICMON_SEED", "1"))
CHUNK = 2000
TYPES = (0x0800, 0x86DD, 0x8100, 0x88A8, 0x0806, 0x8847)
PROTOCOLS = (0, 1, 2, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 132, 135, 255)


@pytest.fixture(scope="module", params=[False, True], ids=["outside", "inside"])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with Rig(look_inside=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def host() -> HostParser:
    return HostParser()


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    if not PCAPS.is_dir():
        pytest.skip(f"needs captures, which the checkout does not hold: put them in {PCAPS}")
    paths = sorted(path for path in PCAPS.rglob("*.pcap*"))
    found = [frame for path in paths for frame in read_capture(path).frames]
    return [frame for frame in found if SHORTEST <= len(frame) <= LONGEST]


def compare(rig: Rig, host: HostParser, packets: list[bytes], *, raw: bool = False) -> None:
    rig.raw(raw)
    if differences := disagreements(rig, host, packets, raw=raw):
        alone = next((packet for packet in packets if disagreements(rig, host, [packet], raw=raw)), b"")
        pytest.fail("\n".join([*differences, f"alone: {alone.hex()}"]))


def disagreements(rig: Rig, host: HostParser, packets: list[bytes], *, raw: bool) -> list[str]:
    """Between kernel and host, over flows and totals; and over what tunnels carry, if the kernel looks.

    What the last program, XDP, counted is left in the rig.
    """
    wrong = []
    programs = {"tm_tc": [] if raw else [packet for packet in packets if _runs_in_tc(packet)], "tm_xdp": packets}
    for program, chosen in programs.items():
        look_inside = rig.datapath.options.look_inside
        inners = host.count(chosen, rig.datapath.loaded.seed, raw=raw) if look_inside else Counter()
        rig.forget()
        rig.run(chosen, program)
        found = rig.account()
        wrong += [f"{program}: {difference}" for difference in found.differences(host_account(chosen, raw=raw))]
        if found.inners != inners:
            wrong.append(f"{program}, inside: {found.inners - inners} here, {inners - found.inners} there")
    return wrong


def _runs_in_tc(packet: bytes) -> bool:
    """A test run of TC refuses a frame that has less than the IP header which its type promises."""
    return len(packet) >= {b"\x08\0": 34, b"\x86\xdd": 54}.get(packet[12:14], 14)


@pytest.mark.timeout(300)
def test_both_builds_agree_on_every_capture(rig: Rig, host: HostParser, frames: list[bytes]) -> None:
    assert len(frames) > 10_000
    for at in range(0, len(frames), CHUNK):
        compare(rig, host, frames[at : at + CHUNK])


@pytest.mark.timeout(max(300, MUTATED // 5_000))
@pytest.mark.parametrize("raw", [False, True], ids=["Ethernet", "raw IP"])
def test_both_builds_agree_on_mutated_packets(rig: Rig, host: HostParser, frames: list[bytes], raw: bool) -> None:
    dice = random.Random(SEED)
    few = dice.sample(frames, min(len(frames), 20_000))
    todo = MUTATED // 2
    kinds, inners = set(), 0
    while todo > 0:
        packets = [mutated(dice, few) for _ in range(min(todo, CHUNK))]
        if raw:
            packets = [packet[14:] if len(packet) >= 14 + SHORTEST else packet for packet in packets]
        compare(rig, host, packets, raw=raw)
        kinds |= {name for name, count in rig.account().totals.items() if count}
        inners += len(host.count(packets, 0, raw=raw))
        todo -= len(packets)
    wanted = {"seen", "not_ip", "malformed", "bad_ip_header", "bad_ip_length", "short_ip", "short_transport"}
    assert wanted | {"bad_transport", "short_extension", "deep_extensions"} <= kinds
    assert raw or {"short_vlan", "unparsed_link"} <= kinds
    assert inners > MUTATED // 100


def mutated(dice: random.Random, frames: list[bytes]) -> bytes:
    """A packet with one to four things wrong with it."""
    packet = bytearray(dice.choice(frames))
    for _ in range(dice.randint(1, 4)):
        dice.choice(_MUTATIONS)(dice, packet, frames)
    if len(packet) < SHORTEST:
        packet += bytes(SHORTEST - len(packet))
    return bytes(packet[:LONGEST])


def _flip(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    if packet:
        packet[dice.randrange(min(len(packet), 120))] ^= 1 << dice.randrange(8)


def _overwrite(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    if packet:
        packet[dice.randrange(min(len(packet), 120))] = dice.choice((0, 1, 0x45, 0x60, 0x7F, 0x80, 0xFF))


def _cut(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    del packet[dice.randrange(len(packet) + 1) :]


def _pad(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet += bytes(dice.randint(1, 200))


def _tag(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[12:12] = struct.pack("!HH", dice.choice((0x8100, 0x88A8)), dice.randrange(1 << 16))


def _stack(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    """More link headers than are ever met, up to more than are followed."""
    kind, bottom = dice.choice((b"\x81\0", b"\x88\xa8", b"\x88\x47")), bytes([0, 1, 1, 64]) * dice.randrange(2)
    depth = dice.choice((1, 3, 15, 16, 17, 100, 384, 386, 387, 400))
    packet[12:12] = (kind + bytes([0, dice.randrange(3)])) * depth + bottom


def _retype(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[12:14] = struct.pack("!H", dice.choice(TYPES))


def _relength(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    at = dice.choice((16, 18, 20))
    packet[at : at + 2] = struct.pack(
        "!H", dice.choice((0, 1, 19, 20, 40, max(0, len(packet) - 14), len(packet), 65535))
    )


def _reprotocol(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    at = dice.choice((20, 23, 54, 62))
    packet[at : at + 1] = bytes([dice.choice(PROTOCOLS)])


def _fragment(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[20:22] = struct.pack("!H", dice.choice((0x2000, 0x4000, 1, 0x2001, 0x1FFF)))


def _extend(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    """Extension headers after an IPv6 header, of right and of wrong lengths."""
    if len(packet) < 54 or packet[12:14] != b"\x86\xdd":
        return
    for _turn in range(dice.randint(1, 10)):
        kind, units = dice.choice((0, 43, 44, 51, 60)), dice.choice((0, 0, 0, 1, 2, 255))
        body = bytes([packet[20], units]) + bytes(dice.choice((6, 6, 6 + 8 * units if units < 3 else 6)))
        packet[20] = kind
        packet[54:54] = body
    packet[18:20] = struct.pack("!H", min(65535, len(packet) - 54))


def _splice(dice: random.Random, packet: bytearray, frames: list[bytes]) -> None:
    other = dice.choice(frames)
    packet[dice.randrange(len(packet) + 1) :] = other[dice.randrange(len(other)) :]


def _six(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[:] = dice.choice((udp, tcp_))("2001:db8::1", "2001:db8::2", payload=bytes(dice.randrange(64)))


def _wrap(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[:] = wrapped(dice, bytes(packet[: LONGEST // 2]))


def tcp_(src: str, dst: str, payload: bytes) -> bytes:
    return tcp(src, dst, 1024, 80, 0x12, payload)


def _noise(dice: random.Random, packet: bytearray, _: list[bytes]) -> None:
    packet[:] = MACS + struct.pack("!H", dice.choice(TYPES)) + dice.randbytes(dice.randrange(120))


_MUTATIONS = (
    _flip, _flip, _overwrite, _cut, _pad, _tag, _stack, _retype, _relength, _reprotocol, _fragment, _extend, _splice,
    _six, _noise, _wrap, _wrap, _wrap,
)  # fmt: skip
