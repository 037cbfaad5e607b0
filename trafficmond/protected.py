"""Finds the addresses that the guard protects: this host's lifelines, and those that users are logged in from."""

import time

from trafficmond import networks
from trafficmond.config.settings import Settings
from trafficmond.datapath import sessions, sockets
from trafficmond.datapath.lifelines import OWN, lifelines
from trafficmond.errors import DatapathError
from trafficmond.ruleset import Guard

_NO_SESSIONS = (
    "the guard does not know who is logged in, since logind is not running: rules in files do not spare open sessions; "
    "put the addresses that you log in from on policy.allowlist"
)


class Protected:
    """Reads the state of the host at each call; what cannot be read is in `warnings` until it can."""

    def __init__(self, warnings: dict[str, str]) -> None:
        self._warnings = warnings
        self._lifelines: Guard = ()  # the last that could be read
        self._guarded: set[str] = set()  # the addresses with sessions in the current guard
        self._ssh = sessions.Logins()

    def guard(self, settings: Settings) -> Guard:
        """The lifelines of this host, and the addresses that users are logged in from."""
        for subject in ("guard", "sessions"):
            self._warnings.pop(subject, None)
        self._guarded.clear()
        if not settings.policy.guard:
            return []
        try:
            self._lifelines = lifelines()
        except DatapathError as error:
            self._warnings["guard"] = f"the guard does not know this host's addresses: {error}"
        opened = sessions.open_sessions()
        if opened is None:
            self._warnings["sessions"] = _NO_SESSIONS
        # An IPv6 packet from outside with this host's own address as its source is forged, and Linux accepts it. It
        # discards those of IPv4. Genuine ones come in over lo only.
        forged = "lo" not in settings.interfaces
        found = {cidr: label for cidr, label in self._lifelines if not (forged and label == OWN and ":" in cidr)}
        peers = sessions.logged_in(opened or ())
        self._guarded.update(peers)
        for address, services in peers.items():
            found.setdefault(str(networks.parse(address)), f"open session ({services})")
        return sorted(found.items())

    def sessions_ended(self) -> bool:
        """Whether the guard protects an address from which nobody is logged in any more."""
        return bool(self._guarded - self.logins())

    def logins(self) -> set[str]:
        """The addresses that users are logged in from, by logind.

        If logind is missing or knows nobody, by the age of SSH connections: a container may have logind's folder and an
        sshd that does not report to it. So this must be called every few seconds.
        """
        return set(sessions.logged_in(sessions.open_sessions() or ())) or self._ssh.look(time.monotonic())

    def ssh_peers(self) -> set[str]:
        """The addresses with a connection to SSH's port, logged in or not."""
        return {peer.address for peer in sockets.established(sessions.SSH_PORT)}
