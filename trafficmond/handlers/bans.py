"""The methods for bans."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

from trafficmond import networks
from trafficmond.banlist import UNKNOWN
from trafficmond.config.units import format_duration
from trafficmond.control.bounds import note
from trafficmond.control.call import Call, Reply, Row, method
from trafficmond.control.peers import Caller
from trafficmond.dataclass import asdict, replace
from trafficmond.errors import ConfigError, Mistake, NotFound, Refused
from trafficmond.figures import many
from trafficmond.handlers import spare
from trafficmond.handlers.handler import Handler, named_ports, paged, parse_network, parse_ttl
from trafficmond.networks import Network, shown
from trafficmond.responder import OWNER as RESPONSE
from trafficmond.sinks import messages
from trafficmond.store.records import Ban

_LONGEST_REASON = 200  # characters, as for a label
_LONGEST_OWNER = 64  # characters
_AT_ONCE = 250  # bans handled before other clients are served
_NAMED = 5  # prefixes named in the audit
_SHOWN = 100  # lifted bans in the reply


class Bans(Handler):
    @method("Bans")
    async def bans(self, call: Call) -> AsyncGenerator[Reply, None]:
        async for page in paged(call, self._pages()):
            yield {"bans": page}

    async def _pages(self) -> AsyncIterator[Sequence[Row]]:
        await self._parts.follow_clock()
        bans = self._parts.bans.all()
        for at in range(0, len(bans), _AT_ONCE):
            await asyncio.sleep(0)  # other clients are served between two pages
            yield [_row(ban) for ban in bans[at : at + _AT_ONCE]]

    @method("Ban", changes=True)
    async def ban(
        self,
        call: Call,
        cidr: str,
        ttl_s: float | None = None,
        reason: str = "",
        force: bool = False,
        forever: bool = False,
        owner: str | None = None,
        ports: list[str] | None = None,
    ) -> Reply:
        parts, caller = self._parts, call.caller
        await parts.follow_clock()
        note("reason", reason)
        if ports:
            ports = named_ports(ports, force)
        asked = {"cidr": cidr, "ttl_s": ttl_s, "reason": reason, "forever": forever, "ports": ports}
        wanted, network = self._wanted(caller, owner, asked)
        before = parts.bans.of(network, wanted.owner)
        spared = self._spared()
        if force:
            wanted = replace(wanted, forced=True)
            done = await self._ban_by_force(wanted)
        else:
            spared.refuse(network, "ban", "only a ban from all services can be forced" if wanted.ports else "")
            done = parts.bans.add(wanted)
        if done == before:
            return {"ban": _row(done), "notes": [f"{shown(network)} has this ban already"]}
        lasts = _in_words(wanted)
        fields = {"prefix": done.cidr, "by": caller.user, "owner": done.owner, "expires": done.expires}
        parts.sinks.note(messages.BANNED, f"{caller.user} banned {shown(network)} {lasts}", fields)
        # The kernel walks through all its connections for this, which takes milliseconds.
        peers = await asyncio.get_running_loop().run_in_executor(None, parts.protected.ssh_peers)
        notes = spare.notes(network, cidr, peers - spared.logins)
        if before and before.ports != done.ports:
            notes.append(
                f"this ban of {shown(network)} replaces the earlier one of {done.owner}, for {_services(before)}"
            )
        notes += await self._audit(caller, "ban", done.cidr, None, f"{lasts}{_by_whom([done], caller)}")
        return {"ban": _row(done), "notes": notes}

    @method("BanMany", changes=True)
    async def ban_many(self, call: Call, bans: list[dict[str, Any]], owner: str | None = None) -> Reply:
        parts, caller = self._parts, call.caller
        await parts.follow_clock()
        wanted, mistakes = [], []
        for number, each in enumerate(bans):
            try:
                wanted.append(self._wanted(caller, owner, each))
            except ConfigError as error:
                mistakes += [Mistake(f"bans[{number}].{one.where}", one.what) for one in error.mistakes]
            if number % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        if mistakes:
            raise ConfigError(mistakes, hint="nothing was banned")
        every, wanted = len(wanted), list({ban.cidr: (ban, network) for ban, network in wanted}.values())
        spared, refused, free, so_already = self._spared(), list[Row](), list[Ban](), 0
        for at in range(0, len(wanted), _AT_ONCE):
            part = []
            for ban, network in wanted[at : at + _AT_ONCE]:
                try:
                    spared.refuse(network, "ban")
                    if parts.bans.equal_in_force(ban):
                        so_already += 1
                    else:
                        part.append(ban)
                except Refused as refusal:
                    refused.append({"cidr": ban.cidr, "why": str(refusal)})
            failed = {id(ban): str(error) for ban, error in parts.bans.add_all(part)}
            refused += [{"cidr": ban.cidr, "why": failed[id(ban)]} for ban in part if id(ban) in failed]
            free += [ban for ban in part if id(ban) not in failed]
            await asyncio.sleep(0)
        notes = [f"{so_already:,} of them had this ban already"] if so_already else []
        if every > len(wanted):
            notes.append(f"{every - len(wanted):,} repeated: of each prefix, only the last entry is used")
        if free:
            what = _summary([ban.cidr for ban in free])
            text = f"{caller.user} banned {what}"
            fields = {"prefix": free[0].cidr, "by": caller.user, "owner": free[0].owner, "bans": len(free)}
            parts.sinks.note(messages.BANNED, text, fields)
            notes += await self._audit(caller, "ban", what, None, many(len(free), "ban") + _by_whom(free, caller))
        return {"banned": len(free) + so_already, "refused": refused, "notes": notes}

    def _wanted(self, caller: Caller, owner: str | None, asked: Row) -> tuple[Ban, Network]:
        ports = ",".join(named_ports(asked.get("ports") or ()))
        now, network, ttl_s = time.time(), parse_network(asked["cidr"]), asked.get("ttl_s")
        if asked.get("forever") and ttl_s is not None:
            raise ConfigError([Mistake("forever", "cannot be used with ttl_s: a ban either ends or lasts")])
        expires = None
        if not asked.get("forever"):
            expires = now + parse_ttl(self._parts.settings.response.ban_time if ttl_s is None else ttl_s)
        whose, reason = _owner(owner, caller), _clean(asked.get("reason") or "")
        return Ban(str(network), caller.user, reason, now, expires, owner=whose, ports=ports), network

    async def _ban_by_force(self, ban: Ban) -> Ban:
        """Takes the prefix from guard and allowlist and bans it: both or neither."""
        rulebook, bans = self._parts.rulebook, self._parts.bans
        await rulebook.force_bans({*bans.forced(), networks.parse(ban.cidr)})
        try:
            return bans.add(ban)
        finally:
            await rulebook.force_bans(bans.forced())  # undoes the first step if the kernel refused the ban

    @method("Unban", changes=True)
    async def unban(self, call: Call, cidr: str, owner: str | None = None, everyone: bool = False) -> Reply:
        caller, network = call.caller, parse_network(cidr)
        lifted, held = await self._lift([network], None if everyone else _owner(owner, caller))
        if not lifted and held:
            names = ", ".join(sorted({ban.owner for ban in held}))
            raise NotFound(
                f"no ban of {_owner(owner, caller)} lies within {shown(network)}; it is banned by {names}",
                hint="add --owner NAME for the bans of that owner, or --all for everyone's",
            )
        if not lifted:
            wider = next(iter(self._parts.bans.covering(str(network))), None)
            if wider is None:
                hint = self._parts.warnings.get("bans") or "see trafficctl bans"
                raise NotFound(f"no ban lies within {shown(network)}", hint=hint)
            what = f"no ban lies within {shown(network)}; {wider.owner}'s ban of {wider.cidr} covers it"
            raise NotFound(what, hint=f"trafficctl unban {wider.cidr} --owner '{wider.owner}' lifts it")
        self._say_lifted(caller, lifted)
        subject, before = lifted[0].cidr, f"{_in_words(lifted[0])}{_by_whom(lifted, caller)}"
        if len(lifted) > 1:
            subject, before = str(network), many(len(lifted), "ban")
        notes = await self._audit(caller, "unban", subject, before, None)
        return {"lifted": [_row(ban) for ban in lifted], "held": [_row(ban) for ban in held], "notes": notes}

    @method("UnbanMany", changes=True)
    async def unban_many(self, call: Call, cidrs: list[str], owner: str | None = None, everyone: bool = False) -> Reply:
        caller, wanted, mistakes = call.caller, [], []
        for number, cidr in enumerate(cidrs):
            try:
                wanted.append(parse_network(cidr, f"cidrs[{number}]"))
            except ConfigError as error:
                mistakes += error.mistakes
        if mistakes:
            raise ConfigError(mistakes, hint="nothing was lifted")
        lifted, held = await self._lift(wanted, None if everyone else _owner(owner, caller))
        notes: list[str] = []
        if lifted:
            notes = await self._audit(caller, "unban", self._say_lifted(caller, lifted), None, None)
        shown = {"bans": [_row(ban) for ban in lifted[:_SHOWN]], "stay": [_row(ban) for ban in held[:_SHOWN]]}
        return {"lifted": len(lifted), "held": len(held), "notes": notes, **shown}

    def _say_lifted(self, caller: Caller, lifted: Sequence[Ban]) -> str:
        what = _summary(list(dict.fromkeys(ban.cidr for ban in lifted)))
        fields = {"prefix": lifted[0].cidr, "by": caller.user, "owner": lifted[0].owner, "bans": len(lifted)}
        ban = "ban" if len(lifted) == 1 else "bans"
        self._parts.sinks.note(messages.UNBANNED, f"{caller.user} lifted the {ban} of {what}", fields)
        return what

    async def _lift(self, wanted: Sequence[Network], owner: str | None) -> tuple[list[Ban], list[Ban]]:
        """Lifts an owner's bans within these prefixes, or everyone's. Returns (lifted, held by others)."""
        parts = self._parts
        lifted: list[Ban] = []
        held: list[Ban] = []
        for at in range(0, len(wanted), _AT_ONCE):
            part = wanted[at : at + _AT_ONCE]
            gone, others = parts.bans.lift(part, owner)
            lifted += gone
            held += others
            if owner in (None, RESPONSE):
                for network in part:
                    parts.responder.lifted(str(network))
            await asyncio.sleep(0)
        await parts.rulebook.force_bans(parts.bans.forced())
        if any(ban.owner == RESPONSE for ban in lifted):
            await parts.learned.keep(now=True)  # a daemon that is killed knows it at the next start
        return lifted, held


def _owner(name: str | None, caller: Caller) -> str:
    """The owner of a ban: `name`, or the caller. Raises ConfigError."""
    if name is None:
        return caller.user
    if not 0 < len(name) <= _LONGEST_OWNER or not name.isprintable() or " " in name or name == UNKNOWN:
        what = f"{networks.quoted(name)} is not an owner; write up to {_LONGEST_OWNER} characters without blanks"
        raise ConfigError([Mistake("owner", what)])
    return name


def _clean(reason: str) -> str:
    """The reason with characters replaced that cannot be shown: it may quote an untrusted log line."""
    text = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in reason)
    return text if len(text) <= _LONGEST_REASON else text[: _LONGEST_REASON - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _row(ban: Ban) -> Row:
    return {**asdict(ban), "ports": ban.ports.split(",") if ban.ports else None}


def _services(ban: Ban) -> str:
    return ban.ports.replace(",", ", ") or "all services"


def _in_words(ban: Ban) -> str:
    lasts = "forever" if ban.expires is None else f"for {format_duration(round(ban.expires - ban.since))}"
    return f"{lasts} from {_services(ban)}" if ban.ports else lasts


def _by_whom(bans: Sequence[Ban], caller: Caller) -> str:
    """ " (owner): reason" of the bans of one change, for the audit; without the caller and without several reasons."""
    owner, (reason, *others) = bans[0].owner, {ban.reason for ban in bans}
    return ("" if owner == caller.user else f" ({owner})") + (f": {reason}" if reason and not others else "")


def _summary(cidrs: Sequence[str]) -> str:
    names = ", ".join(shown(cidr) for cidr in cidrs[:_NAMED])
    return names if len(cidrs) <= _NAMED else f"{names} and {len(cidrs) - _NAMED:,} more"
