"""The cgroups of sockets, by sock_diag(7): without a capability, and without reading processes.

The kernel lists 10,000 sockets in a few milliseconds; columns are extracted directly from its reply.
"""

import contextlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from trafficmond import npt
from trafficmond.datapath import sockets
from trafficmond.datapath.netlink import ATTRIBUTE, HEADER, answers, attributes, is_end
from trafficmond.flows.batch import V4_MAPPED, Batch, Column

_ONLY_SIX, _CGROUP = 11, 21  # INET_DIAG_
_PORT_AT = HEADER.size + 4  # struct inet_diag_msg: family and state, ports, source
_ENDS_AT = {"": HEADER.size + 8, "peer_": HEADER.size + 24}
_COOKIE_AT = HEADER.size + 44
_ATTRIBUTES_AT = HEADER.size + sockets.MESSAGE_BYTES
_LOW32 = np.uint64(0xFFFFFFFF)

# A socket: on an address, or on every one (0, 0); with a peer, or none (zeros). `cookie`: its number till a reboot.
WAITING = np.dtype(
    [
        *((f"{end}{half}", "u8") for end in _ENDS_AT for half in ("hi", "lo")),
        *(("port", "u2"), ("peer_port", "u2"), ("proto", "u1"), ("family", "u1"), ("only_six", "?")),
        *(("cgroup", "u8"), ("cookie", "u8")),
    ]
)
_WAIT = {socket.IPPROTO_TCP: (sockets.LISTEN,), socket.IPPROTO_UDP: (sockets.CLOSED, sockets.ESTABLISHED)}

Octets = npt.NDArray[np.uint8]


def waiting(states: Mapping[int, Sequence[int]] = _WAIT) -> Batch:
    """WAITING rows of the sockets in these states, by protocol: TCP listeners, and all of UDP. Raises OSError."""
    found = [np.zeros(0, WAITING)]
    for proto, of_proto in states.items():
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.closing(answers(*sockets.asking_for(family, proto, of_proto))) as answered:
                found += [_rows(messages, family, proto) for messages in alike(answered)]
    return np.concatenate(found)


def alike(answered: Iterator[bytes]) -> Iterator[Octets]:
    """The messages of a dump, to its end, as matrices: one for each run of messages of equal length. Raises OSError."""
    for answer in answered:
        at = 0
        while at + HEADER.size <= len(answer):
            length, kind, *_ = HEADER.unpack_from(answer, at)
            if is_end(kind, answer[at + HEADER.size : at + length]):
                return
            step, begin, head = max(length + 3 & ~3, HEADER.size), at, answer[at : at + 6]
            at += step
            while answer[at : at + 6] == head:
                at += step
            if length >= _ATTRIBUTES_AT and at <= len(answer):
                yield np.frombuffer(answer, np.uint8, at - begin, begin).reshape(-1, step)


def _rows(messages: Octets, family: int, proto: int) -> Batch:
    rows = np.zeros(len(messages), WAITING)
    rows["proto"] = proto
    rows["port"], rows["peer_port"] = _words(messages, _PORT_AT, 4).T
    for end, at in _ENDS_AT.items():
        words = _words(messages, at, 16, ">u4").astype(np.uint64)
        if family == socket.AF_INET:
            hi, lo = words[:, 0] & np.uint64(0), words[:, 0] | V4_MAPPED
        else:
            hi, lo = (words[:, half] << np.uint64(32) | words[:, half + 1] for half in (0, 2))
        if not end:
            rows["family"] = np.where((hi == 0) & (lo & ~_LOW32 == V4_MAPPED), 4, 6)
        rows[f"{end}hi"], rows[f"{end}lo"] = hi, np.where((hi == 0) & (lo == V4_MAPPED), 0, lo)
    rows["cookie"] = _words(messages, _COOKIE_AT, 8, "=u8")[:, 0]
    rows["only_six"] = _attribute(messages, _ONLY_SIX, 1)[:, 0] != 0
    rows["cgroup"] = np.ascontiguousarray(_attribute(messages, _CGROUP, 8)).view("=u8")[:, 0]
    return rows


def _words(messages: Octets, at: int, size: int, kind: str = ">u2") -> npt.NDArray[Any]:
    return np.ascontiguousarray(messages[:, at : at + size]).view(kind)


def _attribute(messages: Octets, kind: int, size: int) -> Octets:
    """An attribute of that size in each message, zeros: missing. Nearly all have it where the first one has it."""
    found = np.zeros((len(messages), size), np.uint8)
    at, end = _ATTRIBUTES_AT, messages.shape[1]
    first = messages[0].tobytes()
    while at + 4 <= end:
        length, of = ATTRIBUTE.unpack_from(first, at)
        if of == kind and length == 4 + size:
            break
        at += max(length + 3 & ~3, 4)
    same: Column = np.zeros(len(messages), bool)
    if at + 4 + size <= end:
        same = (messages[:, at : at + 4] == messages[0, at : at + 4]).all(axis=1)
        found[same] = messages[same, at + 4 : at + 4 + size]
    for row in np.flatnonzero(~same).tolist():
        value = attributes(messages[row, _ATTRIBUTES_AT:].tobytes()).get(kind, b"")
        if len(value) == size:
            found[row] = np.frombuffer(value, np.uint8)
    return found
