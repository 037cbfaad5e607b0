"""Dumps by netlink(7), message by message: only as much is read and parsed as needed."""

import contextlib
import os
import socket
import struct
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from trafficmond.errors import DatapathError

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_REQUEST, _DUMP = 0x1, 0x300  # NLM_F_
_ERROR, _DONE = 2, 3  # NLMSG_
_SOL_NETLINK, _GET_STRICT_CHK = 270, 12  # absent from Python's socket module
ATTRIBUTE = struct.Struct("=HH")
_KIND = 0x3FFF  # without the flags of a nested attribute

T = TypeVar("T")


@contextlib.contextmanager
def asking(to: str) -> Iterator[None]:
    """A context for requests to the kernel, described by `to`. Raises DatapathError if the kernel refuses."""
    try:
        yield
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise DatapathError(f"cannot {to}: {why}", hint="allow AF_NETLINK sockets") from error


def with_library(work: Callable[[Any], T]) -> T:
    """Does `work` with pyroute2's IPRoute in a separate thread: since 0.9 it runs an event loop. Raises OSError."""

    def whole() -> T:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError

        try:
            with IPRoute() as asked:
                return work(asked)
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error

    with ThreadPoolExecutor(1, "netlink") as thread:
        return thread.submit(whole).result()


def dump(protocol: int, kind: int, request: bytes, *, strict: bool = False) -> Iterator[bytes]:
    """The bytes after the header of each message of the reply to `request`. Raises OSError. `strict`: the kernel
    applies the request's filter, if it supports that."""
    for answer in answers(protocol, kind, request, strict=strict):
        at = 0
        while at < len(answer):
            length, of, *_ = HEADER.unpack_from(answer, at)
            message = answer[at + HEADER.size : at + length]
            if is_end(of, message):
                return
            yield message
            at += length + 3 & ~3


def is_end(kind: int, message: bytes) -> bool:
    """Whether the message after a header of this kind ends a dump. Raises OSError if it is an error."""
    if kind not in (_ERROR, _DONE):  # both have an error number, 0 for none
        return False
    number = -struct.unpack_from("=i", message)[0]
    if number:
        raise OSError(number, os.strerror(number))
    return True


def answers(protocol: int, kind: int, request: bytes, *, strict: bool = False) -> Generator[bytes, None, None]:
    """The received parts of the reply to `request`, several messages each, up to `is_end`."""
    header = HEADER.pack(HEADER.size + len(request), kind, _REQUEST | _DUMP, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as asked:
        if strict:
            asked.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        asked.send(header + request)
        while True:
            yield asked.recv(1 << 16)


def attributes(octets: bytes) -> dict[int, bytes]:
    """Attributes by their type (struct rtattr)."""
    found, at = {}, 0
    while at + ATTRIBUTE.size <= len(octets):
        length, kind = ATTRIBUTE.unpack_from(octets, at)
        if length < ATTRIBUTE.size:
            break
        found[kind & _KIND] = octets[at + ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found
