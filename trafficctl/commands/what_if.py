"""What other rules would have done to the flows that were seen: what would newly be dropped, limited or allowed.

PATH is a folder of rules files, used instead of cidr.d; or a rules file, which replaces the one with its name in cidr.d
or is added to the others; or a settings file with all rules and lists that it names. Everything else is as in force:
rules made by hand, the guard, bans. Stored flows, and flows that continue, are judged as by the kernel: once with the
rules in force, and once with the others. Nothing is changed. The command reads the daemon's flows.db, which members of
group trafficmon may read.

The exit code is 0 if nothing would be different, and 1 if something would.

Examples:
  trafficctl what-if ./new-rules
  trafficctl what-if ./20-office.toml --since 7d
  trafficctl what-if --default drop --since 7d
  trafficctl what-if ./trafficmond.toml -o json | jq .dropped.rules
"""

from argparse import ArgumentParser, Namespace

from trafficctl import options, values
from trafficctl.exits import UsageError
from trafficmond.dataclass import replace


def arguments(parser: ArgumentParser) -> None:
    text = "a folder, a rules file or a settings file"
    parser.add_argument("path", nargs="?", metavar="PATH", type=values.path, help=text)
    parser.add_argument("--default", choices=("allow", "monitor", "drop"), help="with this policy.default")
    options.add(parser, "--since", usual="1d")


def run(args: Namespace) -> int:
    from trafficctl.whatif import ask, rules
    from trafficmond.model import Action

    if args.path is None and args.default is None:
        hint = "name rules or settings: trafficctl what-if ./new-rules; or a default: --default drop"
        raise UsageError("there is nothing to compare with", hint)

    def changed(now: rules.RuleSnapshot) -> rules.RuleSnapshot:
        then = rules.with_path(now, args.path) if args.path else now
        return replace(then, default=Action.parse(args.default)) if args.default else then

    return ask.ask(args, changed, args.since)
