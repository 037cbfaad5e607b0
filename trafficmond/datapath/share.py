"""Sharing an interface with other XDP programs: the daemon's requests to the privileged step, and the replies.

libxdp manages the chain of XDP programs by the ids of other programs, which needs CAP_SYS_ADMIN, so root does it
(`trafficmond.sharer`). systemd starts that when the daemon connects to its socket; a daemon that is root starts it
itself. Each request and its reply are JSON in one packet, with the maps as descriptors.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trafficmond.dataclass import dataclass
from trafficmond.datapath import libbpf
from trafficmond.datapath.interfaces import XdpMode
from trafficmond.datapath.loader import Loaded, Sizes
from trafficmond.datapath.pins import layout_name
from trafficmond.errors import DatapathError, ForeignProgramError
from trafficmond.sdnotify import ServiceManager

SOCKET = Path("/run/trafficmon/share")
ANSWER_BYTES = 1 << 16
# Seconds for a reply; a few are usual. systemd ends the step before (RuntimeMaxSec=), so none outlives this wait.
_WAIT_S = 240.0
PAUSE_S = 60.0  # before another request for an interface after one that failed
_SIGN_S = 10.0  # between signs of life to systemd meanwhile
STEPS = ThreadPoolExecutor(1, "share")  # requests that the event loop does not wait for


@dataclass(slots=True)
class Shared:
    """Our place in the chain of an interface. `chain`: "PRIORITY NAME" of each program in it, first to last."""

    ifindex: int
    dispatcher: int  # id of the interface's XDP program when the chain was read
    mode: XdpMode
    chain: list[str]
    ours: bool = True  # whether our program is in it
    looking: "Future[dict[str, Any]] | None" = None  # what reads it again
    failed: float = -PAUSE_S  # when that failed last, monotonic clock

    def holds(self, config: int) -> bool:
        """Whether our program, identified by its map `config`, is in the chain, as far as it is known. It is read again
        in the background when other programs were added or removed, since that makes a new dispatcher."""
        now = libbpf.xdp_id(self.ifindex)
        if self.ours and now not in (0, self.dispatcher) and time.monotonic() - self.failed >= PAUSE_S:
            if self.looking is None:
                self.looking = STEPS.submit(_ask, {"do": "look", "ifindex": self.ifindex}, [config])
            elif self.looking.done():
                looked, self.looking = self.looking, None
                if looked.exception():
                    self.failed = time.monotonic()
                else:
                    reply = looked.result()
                    self.ours, self.dispatcher, self.chain = reply["ours"], reply["dispatcher"], reply["chain"]
        return bool(now) and self.ours


def join(
    loaded: Loaded, sizes: Sizes, ifindex: int, modes: Sequence[XdpMode], before: Sequence[int], direct: int | None
) -> Shared:
    """Puts the data path into the chain of an interface, in place of what uses maps `before`, or of our link `direct`.
    Raises DatapathError, ForeignProgramError; then the link may be detached."""
    request = {
        "do": "join",
        "ifindex": ifindex,
        "modes": list(modes),
        "layout": layout_name(sizes),
        "sizes": [sizes.cpus, sizes.capacity, sizes.ring, sizes.inners],
        "seed": loaded.seed,
        "owners": loaded.owners,
        "maps": list(loaded.maps),
        "direct": direct is not None,
    }
    reply = _ask(request, [*loaded.maps.values(), *before, *([] if direct is None else [direct])])
    return Shared(ifindex, reply["dispatcher"], XdpMode(reply["mode"]), reply["chain"])


def leave(ifindex: int, maps: Sequence[int], program: int | None = None) -> int | None:
    """Removes the program that uses one of these maps from the chain of an interface. `program` is attached in the
    place of the last one: returns its link, None if there is none. Raises DatapathError."""
    alone = [] if program is None else [program]
    reply = _ask({"do": "leave", "ifindex": ifindex, "alone": bool(alone)}, [*maps, *alone])
    return reply.get("link")


def _ask(request: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
    """The reply; a descriptor that came with it is its "link"."""
    try:
        with _privileged() as connection:
            socket.send_fds(connection, [json.dumps(request).encode()], list(fds))
            answer, links = _awaited(connection)
    except OSError as error:
        what = f"cannot reach trafficmon-share, which changes shared XDP programs: {error.strerror or error}"
        raise DatapathError(what, hint=_next_step()) from error
    if not answer:
        raise DatapathError("trafficmon-share ended without an answer", hint=_next_step())
    reply: dict[str, Any] = json.loads(answer)
    if "error" in reply:
        kind = ForeignProgramError if reply.get("foreign") else DatapathError
        raise kind(reply["error"], hint=reply.get("hint", ""))
    return reply | ({"link": links[0]} if links else {})


def _awaited(connection: socket.socket) -> tuple[bytes, list[int]]:
    for _ in range(int(_WAIT_S / _SIGN_S)):
        ServiceManager().busy()
        with contextlib.suppress(TimeoutError):
            return socket.recv_fds(connection, ANSWER_BYTES, 1)[:2]
    raise TimeoutError(f"no answer in {_WAIT_S:.0f} s")


def _next_step() -> str:
    if os.geteuid():
        return "systemctl enable --now trafficmon-share.socket; see journalctl -t trafficmon-share"
    return "its output is above"


@contextmanager
def _privileged() -> Iterator[socket.socket]:
    if os.geteuid():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ours:
            ours.settimeout(_SIGN_S)
            ours.connect(str(SOCKET))
            yield ours
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [sys.executable, "-m", "trafficmond.sharer"]
    ours.settimeout(_SIGN_S)
    with ours, theirs:
        child = subprocess.Popen(command, stdin=theirs.fileno(), cwd=Path(__file__).resolve().parents[2])
        theirs.close()
        try:
            yield ours
        finally:
            ours.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_SIGN_S)
            child.kill()
            child.wait()
