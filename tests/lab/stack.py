"""What of a flood the host's own network stack got to see: the sharpest witness of a gap in the filter."""

from __future__ import annotations

from tmlab import Lab


def ipv4_received(lab: Lab) -> int:
    """IPv4 packets that ever came past XDP in the host's namespace, whatever became of them (InReceives of RFC 4293).

    A flood's packets have no right UDP checksum, so a socket would not tell.
    """
    names, values = [
        line.split() for line in lab.host.run("cat", "/proc/net/snmp").stdout.splitlines() if line.startswith("Ip:")
    ]
    return int(values[names.index("InReceives")])
