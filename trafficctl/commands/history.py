"""The numbered changes of the rules, the latest first: who made them, when, and how much they changed.

Every change has a number: a change by hand, a change in a file, or the end of a rule. A command that makes several
rules is one change. trafficctl rules --at N shows what was in force after change N, trafficctl rules --diff N..M the
difference between two changes, and trafficctl undo N undoes change N. About the latest thousand are kept.

Examples:
  trafficctl history
  trafficctl history --limit 10 -o json
"""

from argparse import ArgumentParser, Namespace

from trafficctl import options, session


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--limit", usual=20)


def run(args: Namespace) -> None:
    from trafficctl.render.columns import CHANGES

    reply = session.call(args, "History", limit=min(args.limit, 1000))
    session.show_rows(args, reply["changes"], CHANGES, "RulesChange", "no changes")
