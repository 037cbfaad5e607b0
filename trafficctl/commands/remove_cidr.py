"""Remove a rule that add-cidr made.

To remove a rule of a file, edit the file; trafficctl rules shows where each rule is from.

Examples:
  trafficctl remove-cidr 203.0.113.0/24
  trafficctl remove-cidr 203.0.113.0/24 --save            also from the saved rules
  trafficctl remove-cidr 192.0.2.7 --direction egress
  trafficctl remove-cidr 0.0.0.0/0 --port tcp/443
"""

from argparse import ArgumentParser, Namespace

from trafficctl import options, session, values


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("cidr", metavar="CIDR", type=values.prefix, help="exactly the prefix of the rule")
    parser.add_argument("--direction", choices=("ingress", "egress", "both"), help="only this direction's")
    options.add(parser, "--port", help="only the rule for exactly these services")
    parser.add_argument("--save", action="store_true", help="remove it from the saved rules, too")


def run(args: Namespace) -> None:
    from trafficctl.render.columns import RULES

    reply = session.call(args, "RemoveCidr", **options.given(args, "cidr", "direction", "save", "ports"))
    session.show_change(args, "removed", reply["removed"], RULES, "Rule", reply)
