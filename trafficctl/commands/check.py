"""Check settings and rules, and show every mistake in its place; needs no daemon.

PATH is the settings file (default /etc/trafficmon/trafficmond.toml, checked with all rules and lists that it names), a
rules file, a prefix list, or a folder of these. The exit code is 1 if there is a mistake; notes are not mistakes.

Examples:
  trafficctl check
  trafficctl check ./trafficmond.toml
  trafficctl check /etc/trafficmon/cidr.d/10-office.toml
  trafficctl check -o json | jq '.mistakes[].what'
"""

from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values


def arguments(parser: ArgumentParser) -> None:
    text = "settings, a rules file, a list or a folder"
    parser.add_argument("path", nargs="?", metavar="PATH", type=values.path, help=text)


def run(args: Namespace) -> int:
    from trafficctl.checking import check
    from trafficctl.render.mistakes import render

    checked = check(args.path)
    session.output(args).report(checked.as_dict(), render)
    return exits.NO if checked.mistakes else exits.DONE
