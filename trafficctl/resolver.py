"""Resolves addresses to names: /etc/hosts at once, reverse DNS in background threads."""

import queue
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trafficmond import networks

HOSTS = Path("/etc/hosts")
_MOST = 4096  # names in the cache; the least recently used is evicted
_WAITING = 1024  # addresses in the queue; further ones are asked for again later
_THREADS = 8
_FRESH_S = 600.0  # a name is looked up again after this time
_LONGEST = 253  # characters of a name


class Resolver:
    """A cache of names by address that never blocks, except in `wait`."""

    def __init__(self, look_up: Callable[[str], str], hosts: Path = HOSTS) -> None:
        """`look_up` returns the name of an address, or raises OSError."""
        self._look_up = look_up
        self._hosts = read_hosts(hosts)
        self._known: OrderedDict[str, tuple[float, str | None]] = OrderedDict()  # address -> time of lookup, name
        self._asked: set[str] = set()
        self._wanted: queue.Queue[str] = queue.Queue(_WAITING)
        self._changed = threading.Condition()
        self._begun = False

    def written(self, address: str) -> str | None:
        return self._hosts.get(address)

    def of(self, address: str) -> str | None:
        """The name if it is known by now; if not, a lookup is started."""
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
        """Waits until all of these have been looked up, at most `seconds`."""
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
            for _ in range(_THREADS):  # daemon threads: a resolver that hangs must not delay the exit
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
    """The name of an address by this host's resolver. Raises OSError if it has none.

    Not by socket.getnameinfo: with Python 3.11.2, no other thread runs until that is answered.
    """
    return socket.gethostbyaddr(address)[0]


def read_hosts(path: Path) -> Mapping[str, str]:
    """The first name of each address in a file such as /etc/hosts; lines that cannot be read are skipped."""
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
