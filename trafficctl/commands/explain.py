"""What happens to packets of an address, why, and what would change it.

It shows everything that matches the address, the strongest first: guard, allowlist, ban, rules and lists by the longest
prefix, rules by system and by country, the default; each with its place. A rule with ports decides only for these. It
also shows the address's counters, latest flows and threats.

Examples:
  trafficctl explain 203.0.113.5
  trafficctl explain 203.0.113.5 tcp/443
  trafficctl explain 2001:db8::1 --direction egress
  trafficctl explain 203.0.113.5 -o json | jq -r .action
"""

from argparse import ArgumentParser, Namespace

from trafficctl import names, session, values
from trafficctl.names import Labels


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("address", metavar="IP", type=values.address, help="an IPv4 or IPv6 address")
    text = "only this service: tcp/443, icmp/8, gre"
    parser.add_argument("service", nargs="?", metavar="SERVICE", type=values.service, help=text)
    text = "packets from it (default) or to it"
    parser.add_argument("--direction", choices=("ingress", "egress"), default="ingress", help=text)
    names.arguments(parser)


def run(args: Namespace) -> None:
    from trafficctl.render.detail import render_explanation

    asked = {"address": args.address, "direction": args.direction, "service": args.service}
    labels = Labels.of(args)
    (explanation,) = labels.rows([session.call(args, "Explain", **asked)])
    explanation |= {name: list(labels.rows(explanation[name])) for name in ("flows", "threats")}
    session.output(args).report(explanation, render_explanation)
    session.note_unnamed([*(explanation.get("listeners") or ()), *(row.get("unit") for row in explanation["flows"])])
