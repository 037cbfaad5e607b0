#!/usr/bin/env bash
# Python 3.11.2 (Debian 12): while socket.getnameinfo waits for a name server, no other thread of the process runs;
# socket.gethostbyaddr, which asks the same question, lets them run.
#
# Python's documentation says that calls which block release the interpreter lock, and looking names up in threads is how
# a program goes on while a resolver is slow. socket.getaddrinfo and socket.gethostbyaddr do release it. getnameinfo, the
# modern one of the two that ask for the name of an address, does not in this version (later ones do): a pool of eight threads asks one
# after the other, a wait with a time limit ends when the resolver gives up, and the program looks frozen. On a desk nobody
# sees it, because a resolver that works answers within milliseconds.
#
# Seen: "getnameinfo: sleep(0.1) beside it took 2.1 s" (the resolver's own time limit) and "gethostbyaddr: ... 0.1 s"
set -euo pipefail

DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends 'python3.11-minimal=3.11.2-*' 'libpython3.11-stdlib=3.11.2-*' iproute2 >/dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
printf 'nameserver 127.0.0.1\noptions timeout:2 attempts:1\n' >"$folder/resolv.conf"

cat >"$folder/ask.py" <<'PYTHON'
import contextlib
import socket
import threading
import time

silent = socket.socket(type=socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))  # a name server that never answers


def beside(ask):
    """How long a sleep of 0.1 s takes while another thread asks for a name."""

    def work():
        with contextlib.suppress(OSError):
            ask()

    began = time.monotonic()
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.1)
    return time.monotonic() - began


held = beside(lambda: socket.getnameinfo(("192.0.2.1", 0), socket.NI_NAMEREQD))
free = beside(lambda: socket.gethostbyaddr("192.0.2.2"))
print(f"getnameinfo: sleep(0.1) beside it took {held:.1f} s\ngethostbyaddr: {free:.1f} s")
if held < 1.5 or free > 1.0:
    raise SystemExit("the behaviour changed")
PYTHON

unshare --net --mount --propagation private bash -eu -s "$folder" <<'SHELL'
ip link set lo up
mount --bind "$1/resolv.conf" "$(realpath /etc/resolv.conf)"
exec /usr/bin/python3.11 "$1/ask.py"
SHELL
