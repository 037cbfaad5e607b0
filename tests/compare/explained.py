"""Differences that are right: which file, what is printed, and why the report has it otherwise."""

from __future__ import annotations

import re

EXPLAINED: list[tuple[str, str, str]] = [
    (
        "frag_ndpi_garbage_1252.pcap",
        "tcp 10.0.0.2 port 9253 and 10.128.0.2 port 24102: begun by",
        "frame 627 is a first fragment with 16 bytes of a TCP header: the flags are in it, the header is not whole, "
        "and only the ports are used (RFC 791 promises eight bytes of it)",
    ),
    (
        "meta_libpcap_invalid_version.pcap",
        "udp fe80::b299:28ff:fec8:d646 port 6696 and ff02::1:6 port 6696: the referee does not have it",
        "the file says version 9.4, which libpcap and tshark refuse (draft-ietf-opsawg-pcap); its packet is read, and "
        "the version is named as damage",
    ),
    (
        "mpls_zeek_trunc_6in6_broken.pcap",
        "none (malformed port 0: (packets 37|bytes 3806)|not IP port 0: only the referee has it)",
        "frame 1088 is all zeros behind its first MPLS label: no label ends the stack (RFC 3032, 2.1), which counts as "
        "malformed, while tshark shows data",
    ),
    (
        "vscan_nmap_ipproto.pcap",
        "(icmpv6|sctp) 192.168.1.10 port 0 and 192.168.1.25 port 0: only the referee|none malformed port 0",
        "nmap -sO sends headers of IP with nothing behind them (frames of 34 bytes): ICMPv6 has 4 bytes at least "
        "(RFC 4443, 2.1), SCTP 12 (RFC 9260, 3.1); tshark says nothing of an empty payload",
    ),
    (
        "vpcflow_raw_ocsf_v1.5.0.txt",
        "tcp 1.2.3.4 port 8080 and 10.0.0.1 port 8864: begun by",
        "tcp_flags is 19, SYN-ACK and FIN: the source answered (docs.aws.amazon.com, flow log records, tcp-flags)",
    ),
]
"""(file name, the printed difference, the reason with packet or line and document), as regular expressions."""


def reason(file: str, difference: str) -> str:
    """Why a difference is right; empty if nobody knows."""
    for name, printed, why in EXPLAINED:
        if re.fullmatch(name, file) and re.search(printed, difference):
            return why
    return ""
