"""Ban an address, a prefix, or many of them, for a while or forever.

Bans end on time even if the daemon does not run. They come before rules and lists. An address of the guard (this
host, its gateways and resolvers, whoever is logged in) or the allowlist cannot be banned without --force. Each ban has
an owner, and several owners can ban one address: it is free when their last ban has ended. With --port, a ban is for
some services only. If several owners ban different services of an address, all of these are banned. A new ban replaces
its owner's old ban of that address.

With - instead of an address, bans are read from standard input, one on each line, such as "203.0.113.5, 1h, scans" or
the address alone. The output of fail2ban-client get JAIL banip, cscli decisions list -o raw and ipset save is accepted
too. The list is one change, with one entry in the audit (several, if it is very long). If a line is wrong, or the input
is empty, nothing is banned.

Examples:
  trafficctl ban 203.0.113.5
  trafficctl ban 203.0.113.0/24 --ttl 2h --reason "login attempts"
  trafficctl ban 203.0.113.7 --port ssh,tcp/8000-8100
  trafficctl ban 203.0.113.9 --ttl forever --owner fail2ban-recidive
  trafficctl ban 203.0.113.0/24 --dry-run          what it would have done in the last day
  cscli decisions list -o raw | trafficctl ban - --owner crowdsec
"""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from trafficctl import exits, options, session, values
from trafficctl.exits import UsageError

if TYPE_CHECKING:
    from trafficctl.banlines import Line

_CALL_BYTES = 1 << 19  # bans in one call; the daemon accepts twice that
_SHOWN = 10  # refused bans shown one by one


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "cidr")
    text = "how long: 10m, 2h, forever (default: response.ban_time)"
    parser.add_argument("--ttl", metavar="TIME", type=values.ttl, dest="ttl_s", help=text)
    options.add(parser, "--port")
    parser.add_argument("--reason", default="", help="the reason, shown by bans and audit")
    options.add(parser, "--owner", "--force", "--dry-run")


def run(args: Namespace) -> int:
    from trafficctl.render.columns import BANS

    if args.dry_run:
        return _try(args)
    if args.cidr == values.INPUT:
        return _ban_many(args)
    asked = options.given(args, "cidr", "reason", "force", "owner", "ports")
    reply = session.call(args, "Ban", **asked, **_lasting(args.ttl_s))
    session.show_change(args, "banned", [reply["ban"]], BANS, "BanEntry", reply)
    return exits.DONE


def _try(args: Namespace) -> int:
    """Shows what the ban would have changed; the exit code is 1 if anything."""
    from trafficctl.whatif import ask, rules

    if args.cidr == values.INPUT:
        raise UsageError("--dry-run works with one address, not with -")
    return ask.ask_about(args, args.cidr, lambda now: rules.with_ban(now, args.cidr, args.ports or ()))


def _ban_many(args: Namespace) -> int:
    from trafficctl import banlines

    if args.force:
        raise UsageError("--force works with one address, not with -")
    bans = [_request(line, args) for line in banlines.of_input("banned")]
    banned, refused, notes = 0, list[dict[str, str]](), dict[str, None]()
    with session.connect(args) as client, session.several_calls(lambda: f"{banned:,} were banned" if banned else ""):
        for part in _parts(bans):
            reply = client.call("BanMany", bans=part, owner=args.owner)
            banned += reply["banned"]
            refused += reply["refused"]
            notes |= dict.fromkeys(reply.get("notes", ()))
    text = f"{banned:,} banned, {len(refused):,} refused"
    session.output(args).report({"banned": banned, "refused": refused}, lambda *_: [text])
    session.print_notes({"notes": notes})
    for each in refused[:_SHOWN]:
        print(f"refused: {each['why']}", file=sys.stderr)
    if len(refused) > _SHOWN:
        print(f"and {len(refused) - _SHOWN:,} more were refused", file=sys.stderr)
    return exits.NO if refused else exits.DONE


def _request(line: Line, args: Namespace) -> dict[str, Any]:
    lasts = args.ttl_s if line.ttl_s is None else line.ttl_s
    asked = {"cidr": line.cidr, "ports": args.ports, "reason": line.reason or args.reason or None, **_lasting(lasts)}
    return {name: value for name, value in asked.items() if value is not None}


def _lasting(ttl_s: float | None) -> dict[str, Any]:
    return {"forever": True} if ttl_s == values.FOREVER else {"ttl_s": ttl_s}


def _parts(bans: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The bans in as few parts as fit into calls."""
    part: list[dict[str, Any]] = []
    size = 0
    for ban in bans:
        octets = len(json.dumps(ban)) + 2
        if part and size + octets > _CALL_BYTES:
            yield part
            part, size = [], 0
        part.append(ban)
        size += octets
    if part:
        yield part
