"""What reads the usual frames says what the parser of all says, field by field; the two are compiled from one source.

TRAFFICMON_FUZZ says how many frames are made (2,000,000 where it is not set), TRAFFICMON_SEED from which seed.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from loader_packets import PACKETS, TCP4, TCP6, UDP4, UDP6, tagged
from test_lab_parser import PCAPS, frames, mutated

ROOT = Path(__file__).resolve().parents[2]
MADE = int(os.environ.get("TRAFFICMON_FUZZ", "2000000"))
SEED = int(os.environ.get("TRAFFICMON_SEED", "1"))
GENERAL, TAKEN, WRONG = range(3)

__all__ = ["frames"]  # the fixture


class Both:
    """bpf/quick.h and bpf/parse.h, compiled for this host."""

    def __init__(self, folder: Path) -> None:
        made, source = folder / "usual.so", Path(__file__).with_name("usual.c")
        compiler = shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            pytest.skip("needs a C compiler to build bpf/quick.h for this host; run: make deps")
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", f"-I{ROOT}/bpf", "-o", made, source], check=True)
        self._library = ctypes.CDLL(str(made))
        self._library.tm_compare_many.argtypes = [ctypes.c_uint64, ctypes.c_uint64, *[ctypes.c_void_p] * 3]
        self._quick, self._general = (ctypes.create_string_buffer(256) for _ in range(2))

    def compare(self, frame: bytes, wire_len: int | None = None) -> int:
        """GENERAL, TAKEN or WRONG."""
        length = len(frame) if wire_len is None else wire_len
        found: int = self._library.tm_compare(frame, len(frame), length, self._quick, self._general)
        if found == WRONG:
            pytest.fail(f"{frame.hex()} of {length}: {self._quick.raw.hex()} here, {self._general.raw.hex()} there")
        return found

    def compare_many(self, count: int, seed: int) -> list[int]:
        """How many were taken of each of eight kinds (see usual.c)."""
        frame, length, taken = ctypes.create_string_buffer(200), ctypes.c_uint32(), (ctypes.c_uint64 * 8)()
        if size := self._library.tm_compare_many(seed, count, frame, ctypes.byref(length), taken):
            self.compare(frame.raw[:size], length.value)
        return list(taken)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("usual"))


@pytest.mark.timeout(max(120, MADE // 100_000))
def test_made_frames_are_the_same_to_both(both: Both) -> None:
    taken = both.compare_many(MADE, SEED * 88172645463325252 % 2**64)
    assert sum(taken) > MADE // 5
    assert min(taken) > MADE // 100, taken


def test_frames_of_captures_whole_and_mutated_are_the_same_to_both(both: Both, request: pytest.FixtureRequest) -> None:
    if not PCAPS.is_dir():
        pytest.skip(f"needs captures, which the checkout does not hold: put them in {PCAPS}")
    captured: list[bytes] = request.getfixturevalue("frames")
    dice = random.Random(SEED)
    whole = sum(both.compare(frame) for frame in captured)
    assert whole > len(captured) // 2, "most are usual"
    assert sum(both.compare(mutated(dice, captured)) for _ in range(20_000)) > 1000


def test_which_frames_are_usual(both: Both) -> None:
    for frame in (UDP4, UDP6, TCP4, TCP6):
        assert both.compare(frame + bytes(12)) == TAKEN
        assert both.compare(tagged(frame, (0x8100, 7)) + bytes(12)) == TAKEN
        assert both.compare(tagged(frame, (0x8100, 7), (0x8100, 7)) + bytes(12)) == GENERAL
    odd = ("ICMP echo", "IPv4 options", "first fragment", "later fragment", "IPv6 options", "TCP header cut", "ARP")
    assert {both.compare(PACKETS[name][0]) for name in odd} == {GENERAL}
