"""Live equals offline: a capture on the wire raises the threats that `analyze` finds in its file."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender, read_capture

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ROOT = Path(__file__).parents[2]
PCAPS = ROOT.parent / "shared" / "data" / "pcaps"
CAPTURES = {  # over how many seconds the frames went over their own wire
    "attacks/vscan_nmap_syn_1000.pcap": 1.2,
    "attacks/vscan_nmap_xmas.pcap": 0.1,
    "attacks/vscan_nmap_udp.pcap": 2.6,
    "attacks/vscan_nmap_ipproto.pcap": 0.1,
    "attacks/sweep_slips_icmp18.pcap": 1.6,
    "attacks/amp_isakmp_4500.pcap": 0.4,
    "attacks/refl_tcp_synack.pcap": 0.1,
}
# The guard and the default play no part in what is seen; the interval is the shipped one.
SETTINGS = """
[policy]
guard = false
"""
_JUDGED_S = 2.0  # live detection is to come within this of the evidence

Situation = tuple[str, str | None, str | None, str]


def situations(threats: list[dict[str, Any]]) -> set[Situation]:
    """What was said of whom, and how severe it is."""
    return {(t["detector"], t["src_ip"], t["dst_ip"], t["severity"]) for t in threats}


def offline(path: Path) -> set[Situation]:
    done = subprocess.run(
        ["/usr/bin/python3", "-m", "trafficctl", "-o", "json", "analyze", str(path)],
        capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    return situations(json.loads(done.stdout)["threats"])


def slices(frames: list[bytes], count: int) -> Iterator[list[bytes]]:
    step = -(-len(frames) // count)
    for at in range(0, len(frames), step):
        yield frames[at : at + step]


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_on_the_wire_raises_what_its_file_raises(name: str) -> None:
    path = PCAPS / name
    if not path.exists():
        pytest.skip(f"needs a capture, which the checkout does not hold: put it at {path}")
    expected = offline(path)
    assert expected, "the capture holds an attack"
    capture = read_capture(path)
    with Lab(quiet=True) as lab, Daemon(lab, SETTINGS) as daemon:
        parts = list(slices(capture.frames, 20))
        began = time.monotonic()
        with Sender(lab.outside, lab.links[0].outside) as sender:
            for number, part in enumerate(parts):
                time.sleep(max(0.0, began + CAPTURES[name] * number / len(parts) - time.monotonic()))
                sender.send(part)
        ended = time.monotonic()
        daemon.wait(lambda: situations(daemon.ask("threats")) >= expected, f"the threats {expected}", 20)
        took = time.monotonic() - ended
        assert situations(daemon.ask("threats")) == expected
    assert took < _JUDGED_S + 3, f"known {took:.1f} s after the last packet; the bench has the exact figure"
