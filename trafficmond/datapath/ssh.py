"""Probable logins over SSH, for hosts without logind.

A connection to SSH's port proves nothing: guessing passwords opens one too. But sshd closes it after its LoginGraceTime
if nobody has logged in by then, so one that is older and in use is a login.
"""

from collections.abc import Iterable

from trafficmond.datapath.sockets import Peer, established

PORT = 22
_GRACE_S = 120.0  # sshd's default LoginGraceTime
_IN_USE_S = 60.0  # since data last went in either direction


class Logins:
    """Records when each connection was first seen. Call `look` often, since ages count from the first call."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] | None = None

    def look(self, now: float) -> set[str]:
        """Addresses that somebody is probably logged in from; `now` is monotonic."""
        return self.judge(established(PORT), now)

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
