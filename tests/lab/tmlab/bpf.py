"""bpf(2) by hand: only what the lab and the bench need, so that they share no code with what they measure.

Layouts: union bpf_attr in linux/bpf.h.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .namespaces import LabError

_LIBC = ctypes.CDLL(None, use_errno=True)
_SYSCALL = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 0)

_MAP_LOOKUP, _MAP_UPDATE, _OBJ_GET, _TEST_RUN, _PROG_FD_BY_ID, _INFO_BY_FD, _UPDATE_BATCH = 1, 2, 7, 10, 13, 15, 26
LIVE_FRAMES = 2  # BPF_F_TEST_XDP_LIVE_FRAMES


@dataclass(frozen=True)
class Run:
    """One BPF_PROG_TEST_RUN: what the last run returned and what a run took on average."""

    retval: int
    kernel_ns: int  # as the kernel measured, whole nanoseconds
    cpu_ns: float  # CPU time of the calling thread, softirqs on its back included


def load(path: Path, pins: Path) -> None:
    """Load every program of the object at `path`; programs and maps are pinned in `pins` by name."""
    done = subprocess.run(
        ["bpftool", "prog", "loadall", str(path), str(pins), "pinmaps", str(pins)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"bpftool cannot load {path}: {done.stderr.strip()}")


def pinned(path: Path) -> int:
    """A descriptor of the pinned object."""
    name = ctypes.create_string_buffer(os.fsencode(path))
    return _bpf(_OBJ_GET, struct.pack("=QII", ctypes.addressof(name), 0, 0))


def program_by_id(ident: int) -> int:
    """A descriptor of the program that `ip link` or bpftool names by number."""
    return _bpf(_PROG_FD_BY_ID, struct.pack("=IIII", ident, 0, 0, 0))


def program_of_link(path: Path) -> int:
    """A descriptor of the program that the pinned link attaches."""
    info = ctypes.create_string_buffer(64)  # struct bpf_link_info: type, id, prog_id
    link = pinned(path)
    try:
        _bpf(_INFO_BY_FD, struct.pack("=IIQ", link, len(info), ctypes.addressof(info)))
    finally:
        os.close(link)
    return program_by_id(struct.unpack_from("=I", info, 8)[0])


def lookup(descriptor: int, key: bytes, value_size: int) -> bytes:
    """The value at `key`; of a per-CPU map all CPUs' values, `value_size` being their sum."""
    keys, value = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value_size)
    _bpf(_MAP_LOOKUP, struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(keys), ctypes.addressof(value), 0))
    return value.raw


def update(descriptor: int, key: bytes, value: bytes) -> None:
    """Put `value` at `key`."""
    keys, values = ctypes.create_string_buffer(key, len(key)), ctypes.create_string_buffer(value, len(value))
    _bpf(_MAP_UPDATE, struct.pack("=IIQQQ", descriptor, 0, ctypes.addressof(keys), ctypes.addressof(values), 0))


def update_many(descriptor: int, keys: bytes, values: bytes, count: int) -> None:
    """Put `count` values at as many keys, both packed one after the other."""
    k, v = ctypes.create_string_buffer(keys, len(keys)), ctypes.create_string_buffer(values, len(values))
    _bpf(
        _UPDATE_BATCH,
        struct.pack("=QQQQIIQQ", 0, 0, ctypes.addressof(k), ctypes.addressof(v), count, descriptor, 0, 0),
    )


def mapped(descriptor: int, length: int) -> mmap.mmap:
    """The values of a BPF_F_MMAPABLE array as memory."""
    return mmap.mmap(descriptor, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)


def run(
    program: int,
    packet: bytes,
    repeat: int,
    *,
    ingress_ifindex: int = 0,
    egress_ifindex: int = 0,
    live: bool = False,
    batch: int = 64,
) -> Run:
    """Run an XDP program `repeat` times on `packet`, on this CPU, as if received on `ingress_ifindex` (0: loopback).

    `egress_ifindex`: it is a program of TC, and the packet leaves there.
    `live`: as real frames that the program may redirect; then `packet` is copied for each of `batch` frames at a time.
    """
    data = ctypes.create_string_buffer(packet, len(packet))
    if egress_ifindex:  # struct __sk_buff as far as ifindex
        given = struct.pack("=40xI", egress_ifindex)
    else:  # struct xdp_md
        given = struct.pack("=IIIIII", 0, len(packet), 0, ingress_ifindex, 0, 0)
    context = ctypes.create_string_buffer(given, len(given))
    attributes = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQIII",
            program, 0, len(packet), 0, ctypes.addressof(data), 0, repeat, 0,
            len(given), 0, ctypes.addressof(context), 0, LIVE_FRAMES if live else 0, 0, batch if live else 0,
        )
    )  # fmt: skip
    before = time.thread_time_ns()
    _bpf(_TEST_RUN, attributes)
    spent = time.thread_time_ns() - before
    retval, kernel_ns = struct.unpack_from("=I", attributes, 4)[0], struct.unpack_from("=I", attributes, 36)[0]
    return Run(retval, kernel_ns, spent / repeat)


def _bpf(command: int, attributes: bytes | bytearray) -> int:
    buffer = ctypes.create_string_buffer(bytes(attributes), max(len(attributes), 80))
    done = _LIBC.syscall(_SYSCALL, command, buffer, len(buffer))
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"bpf command {command}: {os.strerror(code)}")
    if isinstance(attributes, bytearray):
        attributes[:] = buffer.raw[: len(attributes)]
    return int(done)
