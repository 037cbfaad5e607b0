"""The commands `allow` and `deny`: rules for services, in the syntax of ufw."""

from argparse import ArgumentParser, Namespace
from typing import Any

from trafficctl import options, session, values
from trafficctl.exits import UsageError

_HINT = "write prefixes, such as 192.0.2.0/24; without 'from', every source is meant"
_NO_SERVICES = ("from", "in", "out", "on", "to", "any", "proto")
_EVERYWHERE = ["from", "0.0.0.0/0", "::/0"]
_ACTIONS = {"allow": "allow", "deny": "drop"}  # by command


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("services", metavar="SERVICE", type=_services, help="such as tcp/443, 53, icmp/8 or ssh,http")
    what = "prefixes after the word 'from': from 192.0.2.0/24 (default: everywhere)"
    parser.add_argument("sources", nargs="*", metavar="CIDR", default=_EVERYWHERE, help=what)
    options.add(parser, "--label", "--ttl", "--save", "--confirm-within")


def run(args: Namespace) -> None:
    from trafficctl.render.columns import RULES

    cidrs, action = _sources(args), _ACTIONS[args.command]
    rules: list[dict[str, Any]] = []
    notes: dict[str, None] = {}

    def done() -> str:
        return f"{' and '.join(rule['cidr'] for rule in rules)} took effect" if rules else ""

    with session.connect(args) as client, session.several_calls(done):
        for cidr in cidrs:
            asked = options.given(args, "label", "ttl_s", "save", "confirm_within_s")
            reply = client.call("AddCidr", cidr=cidr, action=action, ports=args.services, **asked)
            rules.append(reply["rule"])
            notes |= dict.fromkeys(reply["notes"])  # most notes are the same for all rules
    session.show_change(args, "added", rules, RULES, "Rule", {"notes": list(notes)})


def _services(text: str) -> list[str]:
    """The services in `text`. Raises ValueError, which names the right order if `text` is an address or a keyword."""
    if text in _NO_SERVICES or values.is_a(values.prefix, text):
        order = "the service comes first: tcp/22 from 192.0.2.0/24"
        raise ValueError(f"'{text}' is not a service; {order}; add-cidr makes rules for all services of an address")
    return values.services(text)


def _sources(args: Namespace) -> list[str]:
    words = args.sources
    if words[0] != "from" or len(words) < 2:
        hint = f"write: trafficctl {args.command} {','.join(args.services)} from 192.0.2.0/24"
        if any("," in word for word in words):
            hint += "; separate services by commas without blanks: tcp/80,tcp/443"
        raise UsageError(f'"{" ".join(words)}" has no source prefix', hint)
    try:
        return [values.written_prefix(word) for word in words[1:] if word != "from"]
    except ValueError as error:
        raise UsageError(str(error), _HINT) from None
