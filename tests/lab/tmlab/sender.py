"""Frames onto a wire, byte for byte, at the speed of sendmmsg(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from .namespaces import LabError, Namespace

_LIBC = ctypes.CDLL(None, use_errno=True)
_RETRIES, _RETRY_S = 200, 0.01
_BATCH = 64  # frames a call: under the 256 that a veth's receive ring holds


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class _Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(_Iovec)),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Mmsghdr(ctypes.Structure):
    _fields_ = [("header", _Msghdr), ("sent", ctypes.c_uint)]


@dataclass
class Sent:
    """What reached the wire; `skipped` counts by reason the frames that the kernel would not take."""

    packets: int = 0
    bytes: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Sender:
    """A raw socket on `interface` of `namespace`."""

    def __init__(self, namespace: Namespace, interface: str) -> None:
        self._namespace = namespace
        self._interface = interface
        with namespace.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((interface, 0))
        self._vectors = (_Iovec * _BATCH)()
        self._messages = (_Mmsghdr * _BATCH)()
        for vector, message in zip(self._vectors, self._messages, strict=True):
            message.header.iov = ctypes.pointer(vector)
            message.header.iovlen = 1

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send_one(self, frame: bytes) -> None:
        """Send one frame and look no further."""
        self._socket.send(frame)

    def send(self, frames: Sequence[bytes]) -> Sent:
        """Send `frames` in order. Raises LabError if the wire lost any: then an exact count would mean nothing."""
        lost_before = self._lost()
        sent = Sent()
        at = retries = 0
        while at < len(frames):
            batch = frames[at : at + _BATCH]
            for vector, frame in zip(self._vectors, batch, strict=False):
                vector.base, vector.length = frame, len(frame)
            done = _LIBC.sendmmsg(self._socket.fileno(), self._messages, len(batch), 0)
            if done < 0 and ctypes.get_errno() == errno.ENOBUFS and retries < _RETRIES:
                retries += (
                    1  # the far end is behind, on an emulated machine say: the frame was dropped here, and is told
                )
                time.sleep(_RETRY_S)
                continue
            if done < 0:
                self._skip(batch[0], sent)
                done = 1
            else:
                sent.packets += done
                sent.bytes += sum(map(len, batch[:done]))
            at += done
        lost = self._lost() - lost_before - retries
        if lost > 0:
            raise LabError(f"{self._interface} lost {lost} of {len(frames)} frames on the wire")
        return sent

    def _skip(self, frame: bytes, sent: Sent) -> None:
        """Account for a frame that the kernel refused; an error that is not about the frame is raised."""
        code = ctypes.get_errno()
        if code not in (errno.EMSGSIZE, errno.EINVAL):
            raise LabError(f"cannot send on {self._interface}: {os.strerror(code)}")
        reason = "longer than the MTU" if code == errno.EMSGSIZE else "refused by the kernel"
        sent.skipped[f"{reason} ({len(frame)} bytes)"] += 1

    def _lost(self) -> int:
        return int(self._namespace.link(self._interface)["stats64"]["tx"]["dropped"])
