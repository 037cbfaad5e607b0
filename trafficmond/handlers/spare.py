"""Refuses bans and rules made by hand that would cut off lifelines, allowlisted addresses, or logged-in users."""

from collections.abc import Collection

from trafficmond import networks
from trafficmond.errors import Refused
from trafficmond.model import Reason
from trafficmond.networks import Network, shown
from trafficmond.policy.load import Policy
from trafficmond.policy.rules import Rule


class Spared:
    """The addresses to spare, looked up once for any number of prefixes."""

    def __init__(self, policy: Policy, logins: Collection[str]) -> None:
        """`logins` are the addresses that users are logged in from."""
        self.logins = frozenset(logins)
        self._hosts = [(address, networks.parse(address)) for address in logins]
        self._protected: list[tuple[Network, Rule]] = []
        if len(policy.prefixes):
            first = len(policy.rules)
            while first and policy.rules[first - 1].reason in (Reason.GUARD, Reason.ALLOWLIST):
                first -= 1  # these rules are the last ones
            for row in range(int(policy.starts[first]), len(policy.prefixes)):
                rule = policy.rules[int(policy.owner[row])]
                self._protected.append((networks.parse(policy.prefixes.text(row)), rule))

    def refuse(self, network: Network, what: str, hint: str = "") -> None:
        """Raises Refused, with a hint, if `network` contains an address that this host or its administrator needs."""
        for address, host in self._hosts:
            if networks.within(host, network):
                among = f"{shown(network)} holds {address}; somebody seems to be logged in from there"
                who = f"somebody seems to be logged in from {address}" if host == network else among
                raise Refused(who, hint=hint or "use --force to do it anyway")
        for inner, rule in self._protected:
            if rule.reason is Reason.GUARD and networks.within(inner, network):
                holds = "is guarded" if network == inner else f"holds {inner.network_address}, which is guarded"
                passes = f"its packets pass in any case; use --force for a {what} that drops them too"
                raise Refused(f"{shown(network)} {holds} ({rule.name} of this host)", hint=hint or passes)
            if rule.reason is Reason.ALLOWLIST and networks.within(network, inner):
                raise Refused(
                    f"{shown(network)} lies in {shown(inner)} of the allowlist, which a {what} does not touch",
                    hint=hint or "use --force to take it out of the allowlist",
                )

    def exempt(self, network: Network) -> list[str]:
        """A note if all of `network` is exempt from rules, so that one without `force` has no effect."""
        for outer, rule in self._protected:
            if networks.within(network, outer):
                over = f"{rule.kind} {shown(outer)} ({rule.name}) comes before it"
                return [f"this rule has no effect: {over}; add it with --force to give it one"]
        return []


def notes(network: Network, written: str, ssh_peers: Collection[str]) -> list[str]:
    """Notes for the author of a ban."""
    found = [f"{network} is every address of IPv{network.version}"] if network.prefixlen == 0 else []
    if networks.has_host_bits(written):
        found.append(f"{written} has host bits set and is read as {network}: {network.num_addresses:,} addresses")
    guests = [address for address in sorted(ssh_peers) if networks.holds(network, address)]
    if guests:
        more = f" and {len(guests) - 1} more" if len(guests) > 1 else ""
        found.append(f"a connection to SSH's port was open from {guests[0]}{more}; nobody was logged in through it")
    return found
