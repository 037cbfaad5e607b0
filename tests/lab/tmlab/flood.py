"""A flood of UDP packets with as many sources as wanted, made inside the kernel at millions a second."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
import tempfile
import threading
from pathlib import Path
from types import TracebackType

from . import bpf
from .daemon import BPFFS, ROOT, mount_bpffs, remove_pins
from .namespaces import Lab, LabError, Link
from .packets import udp

OBJECT = ROOT / "build" / "tests" / "flood.bpf.o"
_SETTINGS = struct.Struct("=IIHHIQ")
_CHUNK = 4096  # frames a call in the background


class Flood:
    """Frames of 60 bytes out of `link`'s outside end, sources from `sources` (an IPv4 prefix), counted up or random.

    `every`: only each 2^every-th address of the prefix.
    The host's end must have XDP attached or GRO on (its receive ring exists only then). Raises LabError otherwise.
    """

    def __init__(
        self, lab: Lab, link: Link, sources: str = "198.18.0.0/15", *, randomly: bool = False, every: int = 0
    ) -> None:
        if not OBJECT.exists():
            raise LabError(f"{OBJECT} is not built; run: make build/tests/flood.bpf.o")
        mount_bpffs()
        network = ipaddress.ip_network(sources)
        self._lab, self._link = lab, link
        self._packet = udp(str(network[0]), link.host_ip, 1024, 9, bytes(18))
        self._pins = Path(tempfile.mkdtemp(prefix=f"{lab.name}-flood", dir=BPFFS))
        bpf.load(OBJECT, self._pins)
        self._program = bpf.pinned(self._pins / "flood")
        self._map = bpf.pinned(self._pins / "flood_settings")
        with lab.outside.entered():
            ifindex = socket.if_nametoindex(link.outside)
        base = int(network.network_address)
        bpf.update(
            self._map, bytes(4), _SETTINGS.pack(ifindex, base, 32 - network.prefixlen - every, every, randomly, 0)
        )
        self._lost_before = self._lost()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Flood:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        os.close(self._program)
        os.close(self._map)
        remove_pins(self._pins)

    @property
    def frame_bytes(self) -> int:
        return len(self._packet)

    @property
    def sent(self) -> int:
        """Frames that the wire took so far. Its ring of 256 has no room for the rest of a chunk when the sender moves
        to another CPU and the receiver, left behind in ksoftirqd, has to wait for its own."""
        handed = int(_SETTINGS.unpack(bpf.lookup(self._map, bytes(4), _SETTINGS.size))[-1])
        return handed - (self._lost() - self._lost_before)

    def _lost(self) -> int:
        return int(self._lab.outside.link(self._link.outside)["stats64"]["tx"]["dropped"])

    def send(self, packets: int) -> bpf.Run:
        """Send this many now. The time is that of sender and, on the same CPU, receiver."""
        with self._lab.outside.entered():
            return bpf.run(self._program, self._packet, packets, live=True)

    def deliver(self, packets: int) -> None:
        """Send until the wire has taken this many more: what it had no room for is sent again."""
        wanted = self.sent + packets
        while (left := wanted - self.sent) > 0:
            self.send(min(left, 100_000))

    def start(self, pause_s: float = 0.005) -> None:
        """Send in the background until `stop`, with a pause after each chunk that leaves the machine some air."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._keep_sending, args=(pause_s,), daemon=True)
        self._thread.start()

    def _keep_sending(self, pause_s: float) -> None:
        while not self._stopping.wait(pause_s):
            self.send(_CHUNK)

    def stop(self) -> int:
        """Stop sending; frames sent in all."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.sent
