"""Who is probably logged in over SSH, where no logind tells.

A connection to SSH's port proves nothing: whoever guesses passwords holds one too. But sshd closes it after its
LoginGraceTime if nobody has logged in by then, so one that is older and in use is a login.
"""

from __future__ import annotations

from collections.abc import Iterable

from trafficmond.datapath.sockets import Peer, established

PORT = 22
_GRACE_S = 120.0  # sshd's LoginGraceTime where nobody has set another
_IN_USE_S = 60.0  # since data last went either way


class Logins:
    """Remembers since when each connection has been there; `look` often, for its age counts from the first look."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, int], float] | None = None

    def look(self, now: float) -> set[str]:
        """Addresses that somebody is probably logged in from; `now` is monotonic."""
        return self.judge(established(PORT), now)

    def judge(self, found: Iterable[Peer], now: float) -> set[str]:
        """`look` with what it would see. Those of the first look may be of any age, and are taken for old."""
        first = now if self._since is not None else now - _GRACE_S
        known = self._since or {}
        peers = list(found)
        self._since = {(each.address, each.port): known.get((each.address, each.port), first) for each in peers}
        return {
            each.address
            for each in peers
            if now - self._since[each.address, each.port] >= _GRACE_S and each.quiet_s <= _IN_USE_S
        }
