#!/usr/bin/env bash
# ulogd2 2.0.8 gives what this host sends the time of its own reading, up to a second late, and what it receives the
# kernel's: in its JSON the answer is older than the question, and a packet to oneself arrives before it has been sent.
#
# nftables' `log group` hands packets to ulogd by netlink, with the time that the kernel has written on them. One would
# expect one clock for all. The kernel writes a time only on packets that come from a device; the ones that a program of
# this host sends have none at that point, and ulogd then takes the present. The kernel meanwhile keeps up to 100 packets
# back for as long as a second (nfnetlink_log's defaults, which ulogd leaves), so all of a quiet second's are late. Who
# sorts such a log by time to learn who began a connection has it wrong for every connection that this host began.
#
# Seen (one datagram over loopback to a closed port, and the refusal): arrived 0.9 to 1.1 s before they were sent
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
	'ulogd2=2.0.8-*' 'ulogd2-json=2.0.8-*' 'nftables=1.0.6-*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/ulogd.conf" <<CONF
[global]
logfile="$folder/log"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_inppkt_NFLOG.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_raw2packet_BASE.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_IFINDEX.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_filter_IP2STR.so"
plugin="/usr/lib/x86_64-linux-gnu/ulogd/ulogd_output_JSON.so"
stack=log:NFLOG,base:BASE,index:IFINDEX,text:IP2STR,json:JSON
[log]
group=5
[json]
file="$folder/packets.json"
sync=1
CONF
cat >"$folder/rules" <<RULES
table inet t {
	chain sent {
		type filter hook output priority 0
		log prefix "sent" group 5
	}
	chain arrived {
		type filter hook input priority 0
		log prefix "arrived" group 5
	}
}
RULES

unshare --net python3 - "$folder" <<'PYTHON'
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

folder = Path(sys.argv[1])
packets = folder / "packets.json"
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["nft", "-f", folder / "rules"], check=True)
ulogd = subprocess.Popen(["ulogd", "-c", folder / "ulogd.conf"])
try:
    while not packets.exists():
        time.sleep(0.1)
    time.sleep(0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"hello", ("127.0.0.1", 9))
    deadline = time.monotonic() + 10
    while packets.read_text().count("\n") < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
finally:
    ulogd.terminate()
    ulogd.wait()

stamps = {}
for line in packets.read_text().splitlines():
    packet = json.loads(line)
    name = "datagram" if packet["ip.protocol"] == socket.IPPROTO_UDP else "refusal"
    stamps[name, packet["oob.prefix"]] = packet["oob.time.sec"] + packet["oob.time.usec"] / 1e6
for name in ("datagram", "refusal"):
    early = stamps[name, "sent"] - stamps[name, "arrived"]
    print(f"the {name} arrived {early:.3f} s before it was sent")
    assert 0.5 < early < 2, "the behaviour changed"
print(f"the answer is {stamps['datagram', 'sent'] - stamps['refusal', 'arrived']:.3f} s older than the question")
PYTHON
