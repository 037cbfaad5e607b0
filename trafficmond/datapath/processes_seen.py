"""Processes that bind, connect or first send (bpf/process.bpf.c).

They are seen by hooks of the root cgroup, and by a program on outgoing packets of monitored interfaces, before the data
path, so that dropped packets count too."""

import contextlib
import os
import socket
import time
from pathlib import Path

import numpy as np

from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.attach import NAMERS
from trafficmond.datapath.cgroups import root
from trafficmond.datapath.observers import Observers, Side
from trafficmond.datapath.pins import NOTES
from trafficmond.datapath.sockets import OPEN
from trafficmond.datapath.waiting import waiting
from trafficmond.errors import DatapathError
from trafficmond.flows.batch import Batch, octets
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
_SOCKETS, _ENDS, _WAITING = "tm_process_sockets", "tm_process_ends", "tm_process_waiting"
_COUNTS = "tm_process_counts"
_SIDES = (Side(_OUT, libbpf.TC_EGRESS_TCX, libbpf.TCX_FIRST, NAMERS[0]),)
_NETNS_COOKIE = 71  # SO_NETNS_COOKIE of asm/socket.h, since Linux 5.14
_RENEWED_S = 30.0  # notes in use stay longer than others
_FULL = 7 / 8  # of a table, above which notes may have been evicted


@dataclass(frozen=True, slots=True)
class ProcessCounts:
    """Counts of notes since the start: struct tm_process_counts."""

    noted: int = 0
    lost: int = 0  # did not fit into the kernel's table


class ProcessesSeen(Observers):
    """The programs and their tables. Raises DatapathError; nothing stays open then."""

    def __init__(self, loader: str, pin_dir: Path) -> None:
        top = root()
        if top is None:
            raise DatapathError("there is no tree of cgroup2", hint="set flows.processes to false")
        self.netns = _netns()
        super().__init__(
            "process",
            loader,
            pin_dir,
            kinds={_OUT: "tc", **{name: kind for name, (kind, _) in _HOOKS.items()}},
            maps=(_SOCKETS, _ENDS, _WAITING, _COUNTS),
            sides=_SIDES,
            unseen="processes that send through {interface}",
        )
        self._capacity = int(libbpf.map_info(self.maps[_ENDS]).max_entries)
        self._renewed: dict[bytes, float] = {}  # ends of waiting processes -> time of the last lookup
        with self._opened as stack:
            folder = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for name, (_, hook) in _HOOKS.items():  # beside other programs: links never take a hook exclusively
                    stack.callback(os.close, libbpf.link_create(self.programs[name], folder, hook))
            except OSError as error:
                raise DatapathError(f"cannot attach to the cgroup {top}: {error.strerror}") from error
            finally:
                os.close(folder)
            with contextlib.suppress(OSError):  # without sock_diag or pins, what was open before is unknown
                self._take_over(pin_dir / NOTES)
            self._opened = stack.pop_all()

    def _take_over(self, pin: Path) -> None:
        """Notes the open sockets that the last daemon noted, and pins the notes of sockets for the next one. A socket's
        cookie is never used again, so what was opened while none ran is not taken for another."""
        with contextlib.suppress(FileNotFoundError):
            old = libbpf.open_pin(str(pin))
            try:
                if libbpf.map_info(old).value_size == NOTE.itemsize:
                    self._note_again(old)
            finally:
                os.close(old)
                pin.unlink()
        libbpf.pin(self.maps[_SOCKETS], str(pin))

    def _note_again(self, old: int) -> None:
        rows = waiting(dict.fromkeys((socket.IPPROTO_TCP, socket.IPPROTO_UDP), OPEN))
        notes = _notes(old, rows["cookie"].copy())
        rows, notes = rows[notes["pid"] > 0], notes[notes["pid"] > 0]
        ends = np.zeros(len(rows), END)
        ends["local"], ends["local_port"], ends["proto"] = octets(rows["hi"], rows["lo"]), rows["port"], rows["proto"]
        waits, dials = ends.copy(), (rows["proto"] == socket.IPPROTO_TCP) & (rows["peer_port"] > 0)
        waits["netns"] = self.netns
        ends["remote"][dials] = octets(rows["peer_hi"], rows["peer_lo"])[dials]
        ends["remote_port"][dials] = rows["peer_port"][dials]
        sends = dials | (rows["proto"] == socket.IPPROTO_UDP)
        for name, keys, which in (
            (_SOCKETS, rows["cookie"], slice(None)),
            (_ENDS, ends, sends),
            (_WAITING, waits, ~dials),
        ):
            for key, note in zip(keys[which], notes[which], strict=True):
                libbpf.update(self.maps[name], key.tobytes(), note.tobytes())

    def sent(self, ends: Batch) -> Batch:
        """A flows.processes.NOTE of the sender for each END; `pid` is 0 if there is none."""
        return _notes(self.maps[_ENDS], ends)

    def waiting(self, ends: Batch) -> Batch:
        """A NOTE of the waiting process for each local END of this network namespace; none before Linux 5.14."""
        if not self.netns:
            return np.zeros(len(ends), NOTE)
        ends = ends.copy()
        ends["netns"] = self.netns
        notes = _notes(self.maps[_WAITING], ends)
        self._renew(ends[notes["pid"] != 0], notes[notes["pid"] != 0])
        return notes

    def counts(self) -> ProcessCounts:
        return ProcessCounts(*self.sums(_COUNTS, 2))

    def may_lack(self) -> bool:
        """Whether there were so many notes that some may have been evicted."""
        return self.counts().noted > self._capacity * _FULL

    def _renew(self, ends: Batch, notes: Batch) -> None:
        """Renews the notes in use, since the kernel evicts the oldest."""
        now = time.monotonic()
        if len(self._renewed) > self._capacity:
            self._renewed.clear()
        for end, note in zip(ends, notes, strict=True):
            key = end.tobytes()
            if now - self._renewed.get(key, -_RENEWED_S) >= _RENEWED_S:
                self._renewed[key] = now
                with contextlib.suppress(OSError):  # it is gone already
                    libbpf.update(self.maps[_WAITING], key, note.tobytes(), libbpf.EXISTING)


def _notes(table: int, keys: Batch) -> Batch:
    found = libbpf.lookup_each(table, keys.tobytes(), keys.itemsize, NOTE.itemsize)
    nothing = bytes(NOTE.itemsize)
    return np.frombuffer(b"".join(note or nothing for note in found), NOTE)


def _netns() -> int:
    """The cookie of the network namespace; 0: this kernel has none."""
    with socket.socket(socket.AF_UNIX) as any_socket, contextlib.suppress(OSError):
        return int.from_bytes(any_socket.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8), "little")
    return 0
