"""The programs stay far from what the verifier takes, a million instructions: other kernels' verifiers look at more."""

from __future__ import annotations

from pathlib import Path

import pytest
from rig import Rig
from verified import verified

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MOST = {"libbpf": 200_000, "bcc": 700_000}  # LLVM of bcc has no instructions of 32 bits to write, so it writes more
LEAST = 1_000  # what parses, judges and books is no less


@pytest.mark.skipif(
    "verified_insns" not in Path("/sys/kernel/btf/vmlinux").read_bytes().decode("latin-1"),
    reason="needs a kernel that tells how many instructions it verified: 5.16 or later",
)
@pytest.mark.parametrize("owners", [False, True], ids=["plain", "units"])
@pytest.mark.parametrize("look_inside", [False, True], ids=["outside", "inside"])
@pytest.mark.parametrize("loader", ["libbpf", "bcc"])
def test_the_verifier_has_room_to_spare(loader: str, look_inside: bool, owners: bool) -> None:
    with Rig(loader, capacity=1024, look_inside=look_inside, owners=owners):
        found = verified()
    print(found)
    assert found.keys() == {"tm_xdp", "tm_tc", "tm_tick"}
    for name in ("tm_xdp", "tm_tc"):
        assert LEAST < (found[name] or 0) <= MOST[loader], found
