#!/usr/bin/env bash
# Linux 6.18: to a new network namespace, a strict dump of the IPv4 routes of the main table ends with ENOENT; the same
# dump that is not strict, that asks for all tables, or for IPv6, is empty and ends well. As soon as lo is up, it does too.
#
# Tables of IPv4 routes are made with the first address. NETLINK_GET_STRICT_CHK is what current programs set so that the
# kernel filters instead of them, and one expects of a filter that finds nothing an empty answer, as without it. Who takes
# the error for what it says, no such table or a kernel without routes, fails in every container before its network is
# there, and at boot. `ip route show` does not tell: it exits with 0 and is silent.
#
# Seen (namespace, answer to table main): new: not strict 0, strict ENOENT, strict and all tables 0, IPv6 strict 0;
#   lo up: 0 in each
set -euo pipefail

case $(uname -r) in
6.1[89].* | [7-9].*) ;;
*) echo "this kernel is $(uname -r); what is shown here was seen on 6.18"; exit 1 ;;
esac

unshare --net bash -euo pipefail <<'SHELL'
dumps() { # CASE WHAT
	seen=$(python3 - <<'PYTHON'
import errno
import socket
import struct

SOL_NETLINK, GET_STRICT_CHK = 270, 12
RTM_GETROUTE, REQUEST_DUMP, RTA_TABLE, DONE = 26, 0x301, 15, 3


def ends(family: int, table: int, strict: int) -> str:
    """How a dump of the routes ends: "0", or the name of the error."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asking:
        asking.bind((0, 0))
        asking.setsockopt(SOL_NETLINK, GET_STRICT_CHK, strict)
        asked = struct.pack("<8BI", family, 0, 0, 0, table, 0, 0, 0, 0)
        asked += struct.pack("<HHI", 8, RTA_TABLE, table) if table else b""
        asking.send(struct.pack("<IHHII", 16 + len(asked), RTM_GETROUTE, REQUEST_DUMP, 1, 0) + asked)
        while True:
            answer = asking.recv(65536)
            at = 0
            while at < len(answer):
                length, kind = struct.unpack_from("<IH", answer, at)
                if kind == DONE:
                    (error,) = struct.unpack_from("<i", answer, at + 16)
                    return errno.errorcode[-error] if error else "0"
                at += length + 3 & ~3


MAIN, ALL = 254, 0
print(ends(socket.AF_INET, MAIN, 0), ends(socket.AF_INET, MAIN, 1), ends(socket.AF_INET, ALL, 1), ends(socket.AF_INET6, MAIN, 1))
PYTHON
	)
	echo "$(uname -r), $1: not strict, strict, all tables, IPv6: $seen"
	[ "$seen" = "$2" ] || { echo "the behaviour changed"; exit 1; }
}

dumps "new namespace" "0 ENOENT 0 0"
ip route show table main
ip link set lo up
dumps "lo is up" "0 0 0 0"
SHELL
