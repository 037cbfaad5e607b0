"""The rules in force, the strongest first; a prefix list is one line.

Precedence: guard, allowlist, ban, rules and lists by the longest prefix, rules by asn, rules by country, the default.
`trafficctl explain ADDRESS` shows which of them decides for one address.

Examples:
  trafficctl rules
  trafficctl rules 203.0.113.0/24             rules that overlap a prefix
  trafficctl rules -o csv > rules.csv
  trafficctl rules -o toml > 50-all.toml      as a rules file that restores them
  trafficctl rules --unused 30d               rules that no flow has matched for 30 days
  trafficctl rules --at 17                    what was in force after change 17 (trafficctl history)
  trafficctl rules --diff                     what the latest change did
  trafficctl rules --diff 17..21
"""

from argparse import ArgumentParser, Namespace
from typing import Any

from trafficctl import exits, session, values
from trafficctl.exits import UsageError
from trafficmond import figures
from trafficmond.control.client import Client


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("within", nargs="?", metavar="CIDR", type=values.prefix, help="only rules that overlap this")
    which = parser.add_mutually_exclusive_group()
    text = "only rules that matched nothing for this long"
    which.add_argument("--unused", metavar="TIME", type=values.duration, help=text)
    text = "the rules that were in force after change N; 0: before the first change"
    which.add_argument("--at", metavar="N", type=values.change, help=text)
    text = "the difference between two changes; N: what change N did; without a number: what the latest change did"
    which.add_argument("--diff", metavar="N..M", nargs="?", const=(), type=values.changes, help=text)


def _print_footer(args: Namespace, client: Client) -> None:
    """Prints below the table since when packets are counted, and how many bans precede the rules."""
    output, status = session.output(args), client.call("Status")
    since = figures.clock(status["started_at"])
    output.line(output.style.dim(f"(packets and bytes since {since}, the daemon's start)"))
    if bans := status["rules"].get("bans"):
        output.line(f"checked before rules and lists: {figures.many(bans, 'ban')} (trafficctl bans)")


def run(args: Namespace) -> int:
    """Shows the rules; the exit code is 1 if none overlaps the prefix."""
    from trafficctl.render.columns import RULES

    if args.diff is not None:
        return _diff(args)
    if args.at is not None or args.output == "toml":
        return _as_file(args)
    with session.connect(args) as client:
        stream = client.stream("Rules", within=args.within, unused_s=args.unused)
        rows = (row for reply in map(_noted, stream) for row in reply["rules"])
        found = session.show_rows(args, rows, RULES, "Rule", "no rules")
        if args.output == "human":
            _print_footer(args, client)
    return exits.DONE if found or not args.within else exits.NO


def _noted(reply: dict[str, Any]) -> dict[str, Any]:
    session.print_notes(reply)
    return reply


def _entries(client: Client, number: int | None) -> list[dict[str, Any]]:
    return [entry for reply in client.stream("RulesAt", number=number) for entry in reply["rules"]]


def _as_file(args: Namespace) -> int:
    """Prints the rules as a rules file, or as data with the fields of one."""
    from trafficctl import rulelines

    past = args.at is not None
    if args.within or args.unused:
        which = f"--at {args.at}" if past else "-o toml"
        raise UsageError(f"{which} always shows all rules", "leave out the prefix and --unused")
    with session.connect(args) as client:
        entries = _entries(client, args.at)
    if args.output in ("human", "toml"):
        for line in rulelines.of_entries(entries, f"after change {args.at}" if past else "in force"):
            print(line)
    else:
        session.output(args).rows(entries, (), fields=("cidr", "action", "ports", "label", "source"))
    return exits.DONE


def _latest(client: Client) -> tuple[int, int]:
    changes = client.call("History", limit=1)["changes"]
    if not changes:
        raise UsageError("no change of the rules is recorded", "see trafficctl history")
    return changes[0]["number"] - 1, changes[0]["number"]


def _diff(args: Namespace) -> int:
    """Shows what was removed and added between two changes; the exit code is 1 if anything."""
    from trafficctl import rulelines
    from trafficmond.policy.entries import without

    with session.connect(args) as client:
        before, after = (_entries(client, number) for number in args.diff or _latest(client))
    found = {"removed": without(before, after), "added": without(after, before)}
    signs = {"removed": "-", "added": "+"}
    lines = [f"{signs[key]} {figures.plain(rulelines.line(each))}" for key, rules in found.items() for each in rules]
    session.output(args).report(found, lambda *_: lines or ["no difference"])
    return exits.NO if lines else exits.DONE
