"""Lift your bans within a prefix, or everyone's.

Bans of other owners stay, and are listed. Bans that older versions made have no owner: anybody may lift them. With -
instead of an address, addresses are read from standard input, as by trafficctl ban -.

Examples:
  trafficctl unban 203.0.113.5
  trafficctl unban 203.0.113.5 --owner fail2ban-sshd
  trafficctl unban 0.0.0.0/0 --all            all bans of IPv4
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from trafficctl import exits, options, session, values
from trafficmond import figures

_AT_ONCE = 10_000  # prefixes in one call
_SHOWN = 10  # bans shown one by one


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "cidr")
    whose = parser.add_mutually_exclusive_group()
    options.add(whose, "--owner")
    whose.add_argument("--all", action="store_true", dest="everyone", help="the bans of all owners")


def run(args: Namespace) -> int:
    """Lifts bans and shows them; the exit code is 1 if there were none."""
    from trafficctl.render.columns import BANS

    whose = options.given(args, "owner", "everyone")
    if args.cidr == values.INPUT:
        return _unban_many(args, whose)
    reply = session.call(args, "Unban", cidr=args.cidr, **whose)
    session.show_change(args, "lifted", reply["lifted"], BANS, "BanEntry", reply)
    _print_held(reply["held"])
    return exits.DONE


def _print_held(held: Sequence[dict[str, Any]]) -> None:
    for ban in held:
        until = f"until {figures.when(ban['expires'])}" if ban["expires"] is not None else "forever"
        print(f"note: {values.host(ban['cidr'])} stays banned by {ban['owner']} {until}", file=sys.stderr)


def _unban_many(args: Namespace, whose: dict[str, object]) -> int:
    from trafficctl import banlines

    cidrs = [line.cidr for line in banlines.of_input("lifted")]
    lifted = held = 0
    notes = dict[str, None]()
    bans, stay = list[dict[str, Any]](), list[dict[str, Any]]()
    with session.connect(args) as client, session.several_calls(lambda: f"{lifted:,} were lifted" if lifted else ""):
        for at in range(0, len(cidrs), _AT_ONCE):
            reply = client.call("UnbanMany", cidrs=cidrs[at : at + _AT_ONCE], **whose)
            lifted += reply["lifted"]
            held += reply["held"]
            notes |= dict.fromkeys(reply.get("notes", ()))
            bans += reply.get("bans") or ()
            stay += reply.get("stay") or ()
    text = f"{lifted:,} lifted" + (f"; {figures.many(held, 'ban')} by others stay" if held else "")
    names = [values.host(ban["cidr"]) for ban in bans[:_SHOWN]]
    more = f" and {lifted - len(names):,} more" if lifted > len(names) else ""
    text += f": {', '.join(names)}{more}" if names else ""
    counts = {"lifted": lifted, "held": held, "bans": bans, "stay": stay}
    session.output(args).report(counts, lambda *_: [text])
    _print_held(stay[:_SHOWN])
    session.print_notes({"notes": notes})
    return exits.DONE if lifted or not cidrs else exits.NO
