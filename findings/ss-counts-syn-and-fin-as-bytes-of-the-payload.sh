#!/usr/bin/env bash
# Linux 6.18, iproute2 6.1.0: `ss -i` counts a SYN and a FIN as a byte of payload each, the SYN at one end only: after 1,000
# bytes each way bytes_acked is 1001 where the connection was opened, and 1000 at the other end.
#
# bytes_acked and bytes_received (of tcp_info) are the kernel's own count of a connection, and what one checks a flow meter
# against. One would expect payload, as in bytes_sent beside them, and bytes_acked of one end to be bytes_received of the
# other. Both are sums of steps in the sequence numbers, in which a SYN and a FIN have a place too. The client's SYN is
# acknowledged to it, but not received by the server, whose socket is made after it; for the same reason the server's own
# SYN is in nothing. A FIN is in both, and bytes_sent has neither. So the sums of both ends of a link differ by one for
# each connection, and those of finished and of open ones by another.
#
# Seen: client acked 1001 received 1000, server acked 1000 received 1000; after the client's FIN: client acked 1002,
#   server received 1001; bytes_sent 1000 throughout
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'iproute2=6.1.0-*' >/dev/null

unshare --net python3 - <<'PYTHON'
import re
import socket
import subprocess
import time


def figures(of: socket.socket) -> list[int]:
    """Bytes sent, acknowledged and received."""
    time.sleep(0.5)  # for the last acknowledgement
    own, peer = of.getsockname()[1], of.getpeername()[1]
    shown = subprocess.check_output(["ss", "-Htino", f"sport = {own} and dport = {peer}"], text=True)
    return [int(re.search(rf"bytes_{name}:(\d+)", shown)[1]) for name in ("sent", "acked", "received")]


def send(source: socket.socket, target: socket.socket, size: int) -> None:
    source.sendall(bytes(size))
    while size:
        size -= len(target.recv(size))


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
with socket.create_server(("127.0.0.1", 0)) as listening:
    client = socket.create_connection(listening.getsockname())
    server, _ = listening.accept()
send(client, server, 1000)
send(server, client, 1000)
seen = {"client": figures(client), "server": figures(server)}
client.shutdown(socket.SHUT_WR)
seen |= {"client after its FIN": figures(client), "server after that FIN": figures(server)}
for end, (sent, acknowledged, received) in seen.items():
    print(f"{end}: sent {sent}, acknowledged {acknowledged}, received {received}")
assert list(seen.values()) == [[1000, 1001, 1000], [1000, 1000, 1000], [1000, 1002, 1000], [1000, 1000, 1001]], (
    "the behaviour changed"
)
PYTHON
