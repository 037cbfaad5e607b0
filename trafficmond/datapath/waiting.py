"""The cgroups of waiting sockets, by sock_diag(7): without a capability, and without reading processes.

The kernel lists 10,000 sockets in a few milliseconds; columns are extracted directly from its reply.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import numpy as np

from trafficmond import npt
from trafficmond.datapath import sockets
from trafficmond.datapath.netlink import ATTRIBUTE, HEADER, answers, attributes, is_end
from trafficmond.flows.batch import V4_MAPPED, Batch, Column

_ONLY_SIX, _CGROUP = 11, 21  # INET_DIAG_
_PORT_AT = HEADER.size + 4  # struct inet_diag_msg: family and state, ports, source
_SOURCE_AT = HEADER.size + 8
_ATTRIBUTES_AT = HEADER.size + sockets.MESSAGE_BYTES
_LOW32 = np.uint64(0xFFFFFFFF)

# A waiting socket: on an address, or on every one (0, 0).
WAITING = np.dtype(
    [("hi", "u8"), ("lo", "u8"), ("port", "u2"), ("proto", "u1"), ("family", "u1"), ("only_six", "?"), ("cgroup", "u8")]
)

Octets = npt.NDArray[np.uint8]


def waiting() -> Batch:
    """WAITING rows: TCP listeners, and UDP without a peer. Raises OSError if the kernel cannot list them."""
    found = [np.zeros(0, WAITING)]
    for proto, state in ((socket.IPPROTO_TCP, sockets.LISTEN), (socket.IPPROTO_UDP, sockets.CLOSED)):
        for family in (socket.AF_INET, socket.AF_INET6):
            with contextlib.closing(answers(*sockets.asking_for(family, proto, state))) as answered:
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
    rows["family"], rows["proto"] = 4 if family == socket.AF_INET else 6, proto
    rows["port"] = _words(messages, _PORT_AT, 2)[:, 0]
    words = _words(messages, _SOURCE_AT, 16, ">u4").astype(np.uint64)
    if family == socket.AF_INET:
        rows["lo"] = np.where(words[:, 0] > 0, words[:, 0] | V4_MAPPED, 0)
    else:
        rows["hi"], rows["lo"] = (words[:, at] << np.uint64(32) | words[:, at + 1] for at in (0, 2))
        mapped = (rows["hi"] == 0) & (rows["lo"] & ~_LOW32 == V4_MAPPED)
        rows["family"][mapped] = 4
        rows["lo"][mapped & (rows["lo"] == V4_MAPPED)] = 0
    rows["only_six"] = _attribute(messages, _ONLY_SIX, 1)[:, 0] != 0
    rows["cgroup"] = np.ascontiguousarray(_attribute(messages, _CGROUP, 8)).view("=u8")[:, 0]
    return rows


def _words(messages: Octets, at: int, size: int, kind: str = ">u2") -> npt.NDArray[Any]:
    return np.ascontiguousarray(messages[:, at : at + size]).view(kind)


def _attribute(messages: Octets, kind: int, size: int) -> Octets:
    """An attribute of that size in each message, zeros if it is missing. The kernel writes attributes of similar
    sockets in one order: nearly all have it where the first one has it."""
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
