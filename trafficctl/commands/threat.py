"""One threat: its evidence, the flows behind it, and what was done about it.

The first characters of an id are enough if no other threat has the same.

Examples:
  trafficctl threat 5f2a
  trafficctl threat 5f2a -o json | jq .threat.evidence
"""

from argparse import ArgumentParser, Namespace

from trafficctl import names, session, values
from trafficctl.names import Labels


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", type=values.named, help="as threats shows it; the beginning is enough")
    names.arguments(parser)


def run(args: Namespace) -> None:
    """Shows the threat; the exit code is 1 if there is none."""
    from trafficctl.render.detail import render_threat

    detail = session.call(args, "Threat", id=args.id)
    labels = Labels.of(args)
    (threat,) = labels.rows([detail["threat"]])
    detail |= {"threat": threat, "flows": list(labels.rows(detail["flows"]))}
    session.output(args).report(detail, render_threat)
