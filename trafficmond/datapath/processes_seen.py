"""Which process binds, connects or first sends: hooks of the root cgroup, and a program on what goes out of watched
interfaces (bpf/process.bpf.c).

Apart from the data path and before it on each interface, so that what is dropped is named too. Nothing is pinned:
nothing is judged by them, and they end with the daemon.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import NAMERS, Attachment, drop_filters, put_filter
from trafficmond.datapath.bcc import loader as bcc_loader
from trafficmond.datapath.cgroups import root
from trafficmond.datapath.loader import find, possible_cpus
from trafficmond.errors import DatapathError
from trafficmond.flows.batch import Batch
from trafficmond.flows.processes import END, NOTE

_OUT = "tm_who_out"
_HOOKS = {  # program -> (section's kind for bcc, enum bpf_attach_type)
    "tm_who_bind4": ("post_bind4", 12),
    "tm_who_bind6": ("post_bind6", 13),
    "tm_who_dial4": ("connect4", 10),
    "tm_who_dial6": ("connect6", 11),
    "tm_who_send4": ("sendmsg4", 14),
    "tm_who_send6": ("sendmsg6", 15),
}
_ENDS, _WAITING, _COUNTS = "tm_process_ends", "tm_process_waiting", "tm_process_counts"
_COUNTED = ("noted", "lost")  # struct tm_process_counts
_NETNS_COOKIE = 71  # SO_NETNS_COOKIE of asm/socket.h, since Linux 5.14
_RENEWED_S = 30.0  # what is asked for stays longer than what is not
_FULL = 7 / 8  # of a table, from where on something may have given way


@dataclass(frozen=True, slots=True)
class Counts:
    """What was noted since the start."""

    noted: int = 0
    lost: int = 0  # the kernel had no room


class ProcessesSeen:
    """The programs and their tables, by the loader that the data path was loaded by; bcc works below `pin_dir`. Raises
    DatapathError; nothing stays open then."""

    def __init__(self, loader: str, pin_dir: Path) -> None:
        top = root()
        if top is None:
            raise DatapathError("there is no tree of cgroup2", hint="set flows.processes to false")
        self.netns = _netns()
        programs, maps = _load(loader, pin_dir)
        self._out, self._ends, self._waiting, self._counts = programs[_OUT], maps[_ENDS], maps[_WAITING], maps[_COUNTS]
        self._capacity = int(libbpf.map_info(self._ends).max_entries)
        self._renewed: dict[bytes, float] = {}  # ends of what waits -> when they were asked for
        self._links: dict[int, list[int]] = {}  # by ifindex; none where it is a filter of a clsact qdisc
        with ExitStack() as stack:
            for fd in (*programs.values(), *maps.values()):
                stack.callback(os.close, fd)
            folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name, (_, hook) in _HOOKS.items():  # beside those of others: links never take a hook for themselves
                    stack.callback(os.close, libbpf.link_create(programs[name], folder, hook))
            except OSError as error:
                raise DatapathError(f"the hooks of {top} refuse: {error.strerror}") from error
            finally:
                os.close(folder)
            self._opened = stack.pop_all()

    def sent(self, ends: Batch) -> Batch:
        """A flows.processes.NOTE of each END that was seen going out; `pid` is 0 where there is none."""
        return _notes(self._ends, ends)

    def waiting(self, ends: Batch) -> Batch:
        """The same of what waits at the local ends, in the daemon's own network namespace; of none where the kernel
        does not tell which that is (before 5.14)."""
        if not self.netns:
            return np.zeros(len(ends), NOTE)
        ends = ends.copy()
        ends["netns"] = self.netns
        notes = _notes(self._waiting, ends)
        self._renew(ends[notes["pid"] != 0], notes[notes["pid"] != 0])
        return notes

    def counts(self) -> Counts:
        """What was noted so far."""
        octets = libbpf.lookup(self._counts, bytes(4), 8 * len(_COUNTED) * possible_cpus()) or b""
        return Counts(*np.frombuffer(octets, np.uint64).reshape(-1, len(_COUNTED)).sum(axis=0).tolist())

    def may_lack(self) -> bool:
        """Whether so much was noted that something may have given way."""
        return self.counts().noted > self._capacity * _FULL

    def lost(self) -> int:
        """Notes that the kernel had no room for."""
        return self.counts().lost

    def follow(self, attached: Mapping[int, Attachment]) -> None:
        """Looks where something is attached, and nowhere else; where that cannot be, a note of the attachment says
        so."""
        for ifindex in self._links.keys() - attached.keys():
            self._leave(ifindex)
        for ifindex in attached.keys() - self._links.keys():
            self._links[ifindex] = []
            try:
                self._look(ifindex)
            except OSError as error:
                done = attached[ifindex]
                done.notes.append(f"processes that send through {done.name} are not seen: {error.strerror}")

    def close(self) -> None:
        """Looks no more."""
        for ifindex in list(self._links):
            self._leave(ifindex)
        self._opened.close()

    def _look(self, ifindex: int) -> None:
        try:
            link = libbpf.link_create(self._out, ifindex, libbpf.TC_EGRESS_TCX, libbpf.TCX_FIRST)
            self._links[ifindex].append(link)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                raise
            put_filter(ifindex, NAMERS[0], self._out)  # before Linux 6.6

    def _leave(self, ifindex: int) -> None:
        links = self._links.pop(ifindex)
        for fd in links:
            os.close(fd)
        if not links:
            drop_filters(ifindex, NAMERS)

    def _renew(self, ends: Batch, notes: Batch) -> None:
        """Has the kernel keep what is asked for, whatever is bound besides: it lets go of what is oldest."""
        now = time.monotonic()
        if len(self._renewed) > self._capacity:
            self._renewed.clear()
        for end, note in zip(ends, notes, strict=True):
            key = end.tobytes()
            if now - self._renewed.get(key, -_RENEWED_S) >= _RENEWED_S:
                self._renewed[key] = now
                with contextlib.suppress(OSError):  # it is gone already
                    libbpf.update(self._waiting, key, note.tobytes(), libbpf.EXISTING)


def _notes(table: int, ends: Batch) -> Batch:
    found = libbpf.lookup_each(table, ends.tobytes(), END.itemsize, NOTE.itemsize)
    nothing = bytes(NOTE.itemsize)
    return np.frombuffer(b"".join(note or nothing for note in found), NOTE)


def _netns() -> int:
    """The cookie of the network namespace; 0: this kernel does not tell."""
    with socket.socket(socket.AF_UNIX) as any_socket, contextlib.suppress(OSError):
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8), "little")
    return 0


def _load(loader: str, pin_dir: Path) -> tuple[dict[str, int], dict[str, int]]:
    programs, maps = (_OUT, *_HOOKS), (_ENDS, _WAITING, _COUNTS)
    if loader == "bcc":
        kinds = {_OUT: "tc", **{name: kind for name, (kind, _) in _HOOKS.items()}}
        return bcc_loader.load_apart("process.bpf.c", pin_dir, kinds, set(maps))
    target = libbpf.Object(str(find("trafficmon-process.bpf.o")))
    try:
        target.load(programs)
        return {name: target.program_fd(name) for name in programs}, {name: target.map_fd(name) for name in maps}
    finally:
        target.close()
