"""The programs stay far from what the verifier takes, a million instructions: other kernels' verifiers look at more."""

from __future__ import annotations

import platform
import subprocess
from itertools import product
from pathlib import Path

import pytest
from rig import Rig
from verified import verified

from trafficmond.datapath import libbpf
from trafficmond.errors import DatapathError

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MOST = {"libbpf": 150_000, "bcc": 700_000}  # LLVM of bcc has no instructions of 32 bits to write, so it writes more
LEAST = 1_000  # what parses, judges and books is no less


BTF = Path("/sys/kernel/btf/vmlinux")


@pytest.mark.skipif(
    not BTF.exists() or b"verified_insns" not in BTF.read_bytes(),
    reason="needs a kernel that tells how many instructions it verified: 5.16 or later",
)
@pytest.mark.parametrize(
    ("loader", "look_inside", "owners"),
    [*(("libbpf", *both) for both in product((False, True), repeat=2)), ("bcc", False, False), ("bcc", True, True)],
)
def test_the_verifier_has_room_to_spare(loader: str, look_inside: bool, owners: bool) -> None:
    with Rig(loader, capacity=1024, look_inside=look_inside, owners=owners):
        found = verified()
    print(found)
    assert found.keys() == {"tm_xdp", "tm_tc", "tm_tick"}
    for name in ("tm_xdp", "tm_tc"):
        assert LEAST < (found[name] or 0) <= MOST[loader], found


# Looks at a byte that may lie beyond the packet.
REFUSED = """
#include <linux/bpf.h>
__attribute__((section("xdp"), used)) int refused(struct xdp_md *x)
{
	return *(volatile unsigned char *)(long)x->data;
}
"""


def test_what_the_verifier_objects_to_is_reported_and_nobody_is_sent_for_capabilities(tmp_path: Path) -> None:
    built = tmp_path / "refused.o"
    headers = f"/usr/include/{platform.machine()}-linux-gnu"
    command = ["clang", "-target", "bpf", "-O2", "-idirafter", headers, "-x", "c", "-c", "-", "-o", built]
    subprocess.run(command, input=REFUSED, text=True, check=True)
    target = libbpf.Object(str(built))
    try:
        with pytest.raises(DatapathError, match=r"Permission denied\nrefused: invalid access to packet, off=0") as told:
            target.load(("refused",))
    finally:
        target.close()
    assert told.value.hint == ""
