"""Hosts with a login session here: from logind, for any daemon and port; without it, probable logins over SSH.

An open connection proves nothing, since guessing passwords opens one too; a session begins after authentication.
libsystemd reads them from /run/systemd/sessions, which takes neither D-Bus nor privileges. sshd closes a connection
after its LoginGraceTime if nobody has logged in by then, so one that is older and in use is a login.
"""

import ctypes
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from trafficmond import networks
from trafficmond.dataclass import dataclass
from trafficmond.datapath.sockets import Peer, established

MOST = 500  # sessions that are read, the oldest first: new ones cannot displace them
_LOGIND = Path("/run/systemd/seats")  # exists while logind runs; pam_systemd checks it too
SSH_PORT = 22
_GRACE_S = 120.0  # sshd's default LoginGraceTime
_IN_USE_S = 60.0  # since data last went in either direction


@dataclass(frozen=True, slots=True)
class Session:
    """A session with another host at its end; texts are logind's, "" if it has none."""

    remote_host: str  # an address, or a name if the daemon looked one up
    service: str  # "sshd", "cockpit": the service that authenticated
    state: str  # "closing": the login has ended, only processes are left
    kind: str  # logind's class: "user", "user-early" (root); "greeter" before authentication


def open_sessions() -> list[Session] | None:
    """Sessions from other hosts, at most MOST sessions looked at; None without logind."""
    if not _LOGIND.exists():
        return None
    try:
        ask = _library()
    except OSError:
        return None
    ids = sorted(_ids(ask), key=lambda each: (len(each), each))[:MOST]
    return [
        Session(
            remote_host=_text(ask.sd_session_get_remote_host, each),
            service=_text(ask.sd_session_get_service, each),
            state=_text(ask.sd_session_get_state, each),
            kind=_text(ask.sd_session_get_class, each),
        )
        for each in ids
        if ask.sd_session_is_remote(each) > 0
    ]


def logged_in(sessions: Iterable[Session]) -> dict[str, str]:
    """Address -> the services with a login from there. Names are left out: whoever controls their DNS records would
    decide whom the guard protects."""
    found: dict[str, set[str]] = {}
    for session in sessions:
        address = _address(session.remote_host)
        if address and session.kind.startswith("user") and session.state != "closing":
            found.setdefault(address, set()).add(session.service or "unknown service")
    return {address: ", ".join(sorted(services)) for address, services in found.items()}


def _address(text: str) -> str:
    try:
        return str(networks.parse_address(text.partition("%")[0]))
    except ValueError:
        return ""


@cache
def _library() -> Any:
    """libsystemd (sd-login(3)). Raises OSError."""
    library: Any = ctypes.CDLL("libsystemd.so.0")
    library.sd_get_sessions.argtypes = [ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p))]
    library.sd_session_is_remote.argtypes = [ctypes.c_char_p]
    for name in ("remote_host", "service", "state", "class"):
        getattr(library, f"sd_session_get_{name}").argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p)]
    library.free = ctypes.CDLL(None).free
    library.free.argtypes = [ctypes.c_void_p]
    library.free.restype = None
    return library


def _ids(ask: Any) -> Iterator[bytes]:
    array = ctypes.POINTER(ctypes.c_void_p)()
    for at in range(ask.sd_get_sessions(ctypes.byref(array))):  # below 0: an error
        yield ctypes.string_at(array[at])
        ask.free(array[at])
    ask.free(ctypes.cast(array, ctypes.c_void_p))


def _text(ask: Callable[..., int], session: bytes) -> str:
    found = ctypes.c_void_p()
    if ask(session, ctypes.byref(found)) < 0 or not found.value:  # none, or the session ended just now
        return ""
    try:
        return ctypes.string_at(found.value).decode(errors="replace")
    finally:
        _library().free(found)


class Logins:
    """Probable logins over SSH. Call `look` often: connections age from the call that first shows them."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] | None = None

    def look(self, now: float) -> set[str]:
        """Addresses that somebody is probably logged in from; `now` is monotonic."""
        return self.judge(established(SSH_PORT), now)

    def judge(self, found: Iterable[Peer], now: float) -> set[str]:
        """`look`, given the connections. Those of the first call may be of any age, and count as old."""
        first = now if self._since is not None else now - _GRACE_S
        known = self._since or {}
        peers = list(found)
        self._since = {(each.address, each.port): known.get((each.address, each.port), first) for each in peers}
        return {
            each.address
            for each in peers
            if now - self._since[each.address, each.port] >= _GRACE_S and each.quiet_s <= _IN_USE_S
        }
