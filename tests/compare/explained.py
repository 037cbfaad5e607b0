"""Differences that are right: which file, what is printed, and why the report has it otherwise."""

from __future__ import annotations

import re

EXPLAINED: list[tuple[str, str, str]] = [
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
