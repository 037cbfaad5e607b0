"""The original program's command line and files, word for word, in a place where the product's own paths are free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.packets import tcp, udp

from trafficmond.control.client import Client

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

ORIGINAL = Path(__file__).parents[3] / "shared" / "data" / "original"
FIELDS = [
    "timestamp", "timestamp_iso", "src_ip", "dst_ip", "src_port", "dst_port", "protocol", "protocol_num",
    "packet_size", "action", "interface", "flow_hash",
]  # fmt: skip

# Its own /run, /var/lib and bpffs: with no settings file the daemon uses the product's own paths there.
PRIVATE = """
for folder in /run /var/lib /etc/trafficmon; do test ! -d $folder || mount -t tmpfs tmpfs $folder; done
mount -t bpf bpf /sys/fs/bpf
exec "$@"
"""


def test_strict_json_with_drop_packets_really_drops() -> None:
    strict = ORIGINAL / "strict.json"
    if not strict.exists():
        pytest.skip(f"the original's examples are not there: {ORIGINAL}")
    with Lab() as lab:
        link = lab.links[0]
        arguments = [
            "-i",
            link.host,
            "-c",
            str(strict),
            "--drop-packets",
            "--log-format",
            "jsonl",
            "--log-file",
            "t.jsonl",
        ]
        prefix = ["unshare", "--mount", "--propagation", "private", "sh", "-c", PRIVATE, "sh"]
        daemon = Daemon(lab, arguments=[*arguments, "--log-buffer-size", "1000"], prefix=prefix)
        try:
            process = daemon.launch()
            daemon.socket = Path(f"/proc/{process.pid}/root/run/trafficmon/io.trafficmon")
            daemon.wait(daemon.answers, "an answer", timeout=20)
            with Listener(lab.host, link.host_ip) as listener, Sender(lab.outside, link.outside) as sender:
                sender.send([udp("192.168.1.7", link.host_ip)] * 3)  # strict.json permits 192.168.1.0/24
                sender.send([udp("203.0.113.7", link.host_ip, 5353)] * 3)
                sender.send([tcp("203.0.113.8", link.host_ip, 40000, 22, 2)])
                assert listener.heard() == {"192.168.1.7": 3}
            with Client(str(daemon.socket)) as client:
                daemon.wait(
                    lambda: client.call("Status")["interfaces"][0]["dropped_packets"] >= 4,
                    "four drops in status",
                    timeout=5,
                )
            assert daemon.stop() == 0
            records = [json.loads(line) for line in (daemon.home / "t.jsonl").read_text().splitlines()]
            # Its default drops the neighbours' own IPv6 as well, when they have something to say.
            dropped = {record["src_ip"]: record for record in records if record.get("action") == "DROP"}
            dropped = {source: record for source, record in dropped.items() if not source.startswith("fe80:")}
            assert set(dropped) == {"203.0.113.7", "203.0.113.8"}
            for record in dropped.values():
                assert list(record)[: len(FIELDS)] == FIELDS
            scan = dropped["203.0.113.8"]
            assert (scan["src_port"], scan["dst_port"], scan["protocol"], scan["protocol_num"]) == (40000, 22, "TCP", 6)
            assert (scan["packet_size"], scan["interface"]) == (54, link.host)
            assert not [
                record for record in records if record.get("src_ip") == "192.168.1.7" and record["action"] == "DROP"
            ]
        finally:
            daemon.remove()
