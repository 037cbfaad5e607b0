"""Bans: look, ban, lift."""

from __future__ import annotations

from typing import Any

from trafficmond.control.bounds import note
from trafficmond.control.call import Call, Reply, method
from trafficmond.control.view import NewBan, Whose


@method("Bans")
async def bans(call: Call) -> Reply:
    """Bans in force."""
    return {"bans": list(await call.view.bans())}


@method("Ban", changes=True)
async def ban(
    call: Call,
    cidr: str,
    ttl_s: float | None = None,
    reason: str = "",
    force: bool = False,
    forever: bool = False,
    owner: str | None = None,
) -> Reply:
    """Ban a prefix."""
    return await call.view.ban(NewBan(cidr, ttl_s, note("reason", reason), force, forever), owner, call.caller)


@method("BanMany", changes=True)
async def ban_many(call: Call, bans: list[dict[str, Any]], owner: str | None = None) -> Reply:
    """Ban many prefixes in one change."""
    wanted = [
        NewBan(each["cidr"], each.get("ttl_s"), each.get("reason") or "", forever=bool(each.get("forever")))
        for each in bans
    ]
    return await call.view.ban_many(wanted, owner, call.caller)


@method("Unban", changes=True)
async def unban(call: Call, cidr: str, owner: str | None = None, everyone: bool = False) -> Reply:
    """Lift bans within a prefix."""
    return await call.view.unban(cidr, Whose(owner, everyone), call.caller)


@method("UnbanMany", changes=True)
async def unban_many(call: Call, cidrs: list[str], owner: str | None = None, everyone: bool = False) -> Reply:
    """Lift bans within many prefixes in one change."""
    return await call.view.unban_many(cidrs, Whose(owner, everyone), call.caller)
