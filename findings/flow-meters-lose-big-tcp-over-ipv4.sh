#!/usr/bin/env bash
# Linux 6.3 and later with gso_ipv4_max_size above 65536 ("BIG TCP"): pmacct 1.7.7, tcpdump 4.99.3 and argus 3.0.8.2
# (Debian 12) count next to nothing of a transfer over IPv4; softflowd 1.1.0 counts it all.
#
# BIG TCP passes TCP on in packets of up to half a megabyte, which only a network card cuts up, and nothing on veth and lo.
# IPv6 has an option for such lengths. IPv4 has 16 bits, so the kernel writes 0 and keeps the length beside the packet.
# One would expect a meter to take the frame's length then; captures have it in full. pmacctd and tcpdump add up what the
# header says, argus books the packets as Ethernet that is not IP, between MAC addresses. No word from any. It is the
# fastest transfers of a host that go missing, once somebody has raised one limit for them.
#
# Seen, of 20,000,000 bytes sent over lo (how much goes in big packets differs from run to run):
#   captured 20,029,551; softflowd 20,027,045; pmacctd 178,267; tcpdump 371,879; argus 375,669 as TCP
set -euo pipefail

case $(uname -r) in
6.[3-9].* | 6.[1-9][0-9].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); BIG TCP for IPv4 came with 6.3"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'pmacct=1.7.7-*' 'tcpdump=4.99.3-*' \
	'argus-server=2:3.0.8.2-*' 'argus-client=1:3.0.8.2-*' 'softflowd=1.1.0-*' 'wireshark-common=4.0.17*' >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

unshare --net python3 - "$folder/big.pcap" <<'PYTHON'
import re
import socket
import struct
import subprocess
import sys
import threading
import time

SENT = 20_000_000
GSO_IPV4_MAX_SIZE, GRO_IPV4_MAX_SIZE = 63, 64  # linux/if_link.h; iproute2 6.1 has no word for them
capture = sys.argv[1]


def run(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout


def number(pattern: str, text: str) -> int:
    return sum(int(each) for each in re.findall(pattern, text))


def receive(server: socket.socket) -> None:
    taken, _ = server.accept()
    while taken.recv(1 << 20):
        pass


run("ip", "link", "set", "lo", "up")
with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
    limits = struct.pack("HHIHHI", 8, GSO_IPV4_MAX_SIZE, 200_000, 8, GRO_IPV4_MAX_SIZE, 200_000)
    link = struct.pack("BxHiII", 0, 0, socket.if_nametoindex("lo"), 0, 0) + limits
    netlink.send(struct.pack("IHHII", 16 + len(link), 19, 5, 1, 0) + link)  # RTM_SETLINK, acknowledged
    assert struct.unpack_from("i", netlink.recv(4096), 16) == (0,)

listen = ["tcpdump", "-q", "-n", "-i", "lo", "-B", "65536", "-w", capture, "tcp"]
with subprocess.Popen(listen, stderr=subprocess.PIPE, text=True) as tcpdump:
    tcpdump.stderr.readline()  # it listens
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=receive, args=(server,))
        thread.start()
        with socket.create_connection(server.getsockname()) as caller:
            caller.sendall(bytes(SENT))
        thread.join()
    time.sleep(2)  # it reads what is captured once a second
    tcpdump.terminate()
    tcpdump.communicate()

run("argus", "-X", "-r", capture, "-w", capture + ".argus")
seen = {
    "captured": number(r"Data size: +(\d+)", run("capinfos", "-M", "-d", capture)),
    "softflowd": number(r"tcp \(6\): +(\d+)", run("softflowd", "-d", "-v", "9", "-r", capture, "-n", "127.0.0.1:9")),
    "pmacctd": number(r'"bytes": (\d+)', run("pmacctd", "-I", capture, "-P", "print", "-c", "proto", "-O", "json")),
    "tcpdump": number(r"length (\d+)\n", run("tcpdump", "-n", "-r", capture)),
    "argus": number(r"(\d+)\n", run("ra", "-n", "-c", ",", "-s", "bytes", "-r", capture + ".argus", "-", "tcp")),
}
print(f"sent {SENT}:", ", ".join(f"{who} {count}" for who, count in seen.items()))
assert min(seen["captured"], seen["softflowd"]) > SENT * 0.9, "the behaviour changed"
assert max(seen["pmacctd"], seen["tcpdump"], seen["argus"]) < SENT * 0.1, "the behaviour changed"
PYTHON
