"""Bans and the audit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict

from trafficmond import networks
from trafficmond.answers.part import Part, lasting, network_of, prefix_of, to_the_end
from trafficmond.control.view import Caller, NewBan, NotFound, Row
from trafficmond.sinks import messages
from trafficmond.store.records import Ban
from trafficmond.store.sql import literal

_AUDIT_COLUMNS = ("at", "uid", "user", "pid", "change", "subject", "before", "after")


class BanAnswers(Part):
    """`Bans`, `Ban`, `Unban` and `Audit`."""

    async def bans(self) -> Sequence[Row]:
        """`BanEntry` rows in force."""
        return [asdict(ban) for ban in self._daemon.bans.all()]

    @to_the_end
    async def ban(self, ban: NewBan, caller: Caller) -> Row:
        """Ban a prefix; the `BanEntry`. Raises Refused for the guard and the allowlist."""
        daemon, now = self._daemon, time.time()
        cidr = prefix_of(ban.cidr)
        seconds = lasting(daemon.settings.response.ban_time if ban.ttl_s is None else ban.ttl_s)
        wanted = Ban(cidr, caller.user, ban.reason, now, now + seconds, forced=ban.force)
        if ban.force:
            done = await self._ban_by_force(wanted)
        else:
            self._spare_lifelines(cidr, "ban")
            done = daemon.bans.add(wanted)
        fields = {"prefix": cidr, "by": caller.user, "expires": done.expires}
        daemon.sinks.note(messages.BANNED, f"{caller.user} banned {cidr} for {seconds:.0f} s", fields)
        await self._audit(caller, "ban", cidr, None, f"{seconds:.0f} s {ban.reason}".rstrip())
        return asdict(done)

    async def _ban_by_force(self, ban: Ban) -> Ban:
        """Takes the prefix from guard and allowlist and bans it, both or neither."""
        rulebook, bans = self._daemon.rulebook, self._daemon.bans
        await rulebook.force_bans({*bans.forced(), networks.parse(ban.cidr)})
        try:
            return bans.add(ban)
        finally:
            await rulebook.force_bans(bans.forced())  # given back if the kernel refused the ban

    @to_the_end
    async def unban(self, cidr: str, caller: Caller) -> Sequence[Row]:
        """Lift the bans within a prefix; what was lifted. Raises NotFound."""
        network = network_of(cidr)
        lifted = self._daemon.bans.lift(network)
        if not lifted:
            raise NotFound(f"no ban lies within {network}", hint="see trafficctl bans")
        self._daemon.responder.lifted(str(network))
        await self._daemon.rulebook.force_bans(self._daemon.bans.forced())
        for ban in lifted:
            text = f"{caller.user} lifted the ban of {ban.cidr}"
            self._daemon.sinks.note(messages.UNBANNED, text, {"prefix": ban.cidr, "by": caller.user})
        await self._audit(caller, "unban", *_lifted(network, lifted), None)
        return [asdict(ban) for ban in lifted]

    async def audit(self, since: float | None, limit: int) -> Sequence[Row]:
        """`AuditEntry` rows, latest first."""
        where = f'WHERE "at" >= {literal(since)}' if since is not None else ""
        return await self._rows(_AUDIT_COLUMNS, f'FROM audit {where} ORDER BY "at" DESC LIMIT {int(limit)}')


def _lifted(network: networks.Network, bans: Sequence[Ban]) -> tuple[str, str]:
    """What the audit has of an unban: the subject, and what there was. One entry, however many were lifted."""
    if len(bans) == 1:
        return bans[0].cidr, bans[0].reason or bans[0].by
    return str(network), f"{len(bans)} bans"
