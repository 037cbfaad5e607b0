"""Names of addresses from /etc/hosts and from reverse DNS, looked up in threads of their own."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trafficmond import networks

HOSTS = Path("/etc/hosts")
_MOST = 4096  # names kept; the one not asked for longest goes
_WAITING = 1024  # addresses that wait to be looked up; more are asked for again later
_THREADS = 8
_FRESH_S = 600.0  # after which a name is looked up again
_LONGEST = 253  # of a name


class Resolver:
    """Names by address: nobody waits for DNS who does not want to."""

    def __init__(self, look_up: Callable[[str], str], hosts: Path = HOSTS) -> None:
        """`look_up` gives the name of an address, or raises OSError."""
        self._look_up = look_up
        self._hosts = read_hosts(hosts)
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()  # when it was found, and the name
        self._asked: set[str] = set()
        self._wanted: queue.Queue[str] = queue.Queue(_WAITING)
        self._changed = threading.Condition()
        self._begun = False

    def written(self, address: str) -> str | None:
        """The name in the file of hosts."""
        return self._hosts.get(address)

    def of(self, address: str) -> str | None:
        """The name, as far as it is known by now; else it is looked up meanwhile."""
        if name := self.written(address):
            return name
        with self._changed:
            found = self._known.get(address)
            if found is not None:
                self._known.move_to_end(address)
            if found is None or time.monotonic() - found[0] > _FRESH_S:
                self._ask(address)
        return found[1] if found else None

    def wait(self, addresses: Iterable[str], seconds: float) -> None:
        """Until all of these were looked up, or the time is over."""
        missing = {address for address in addresses if address not in self._hosts}
        end = time.monotonic() + seconds
        with self._changed:
            while missing and (left := end - time.monotonic()) > 0:
                missing = {address for address in missing if address not in self._known}
                for address in missing - self._asked:
                    self._ask(address)
                if missing:
                    self._changed.wait(left)

    def _ask(self, address: str) -> None:
        if address in self._asked:
            return
        try:
            self._wanted.put_nowait(address)
        except queue.Full:
            return
        self._asked.add(address)
        if not self._begun:
            self._begun = True
            for _ in range(_THREADS):  # a resolver may hang for a minute: it must not hold up the end
                threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            address = self._wanted.get()
            try:
                name = self._look_up(address)[:_LONGEST]
            except (OSError, UnicodeError):
                name = ""
            with self._changed:
                self._asked.discard(address)
                self._known[address] = time.monotonic(), name or None
                self._known.move_to_end(address)
                while len(self._known) > _MOST:
                    self._known.popitem(last=False)
                self._changed.notify_all()


def reverse(address: str) -> str:
    """The name that this host's resolver has for an address. Raises OSError if there is none."""
    return socket.getnameinfo((address, 0), socket.NI_NAMEREQD)[0]


def read_hosts(path: Path) -> Mapping[str, str]:
    """The first name of each address of a file such as /etc/hosts; of what cannot be read, none."""
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in lines:
        words = line.partition("#")[0].split()
        if len(words) < 2:
            continue
        try:
            found.setdefault(str(networks.parse_address(words[0])), words[1])
        except ValueError:  # such as fe80::1%lo0
            continue
    return found
