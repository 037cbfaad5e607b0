"""A report on what the daemon stored: time line, talkers, protocols, threats with their evidence.

It shows the threats that the daemon found in that time, and those that an analysis of its flows (as with trafficctl
analyze) finds in addition. Flows that continue and are not stored yet are included. Usage is shown over time, by
interface; with [geo] databases also by country and network. --write also writes a self-contained HTML page, with a
picture of who exchanged how much with whom. The command reads the daemon's flows.db, which members of group trafficmon
may read.

Examples:
  trafficctl report
  trafficctl report --since 1h --write report.html
  trafficctl report --since 7d -o json > week.json
"""

import socket
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from trafficctl import exits, names, options, session, values
from trafficctl.names import Labels
from trafficmond.store.query import MAX_LIMIT

_DAY_S = 86_400


def arguments(parser: ArgumentParser) -> None:
    options.add(parser, "--since", usual="1d")
    options.add(parser, "--until")
    text = "rows in each list of talkers and flows (10)"
    parser.add_argument("--top", metavar="N", type=values.count, default=10, help=text)
    options.config(parser, "take the detectors' settings from here")
    parser.add_argument("--write", metavar="OUT.html", type=values.path, help="write an HTML page as well")
    names.arguments(parser)


def run(args: Namespace) -> int:
    """Shows or writes the report; the exit code is 1 if there are no flows in that time."""
    from trafficctl.extract import extract
    from trafficctl.report_parts import ReportParts
    from trafficmond.analyze import cli

    now = time.time()
    since = now - _DAY_S if args.since is None else args.since
    until = now if args.until is None else args.until
    with session.connect(args) as client:
        store = Path(client.call("Status")["store"]["path"])
        pages = client.stream("Flows", since=since, limit=MAX_LIMIT, unstored=True)
        # By their beginning, like stored flows: the last packet of a flow that continues is later than `until`.
        live = [row for page in pages for row in page["rows"] if row["first_seen"] <= until]
    with tempfile.TemporaryDirectory(prefix="trafficctl-") as folder:
        part = Path(folder) / f"{socket.gethostname()}.flows.db"  # the report's title
        if not extract(store, part, since, until, live):
            print("trafficctl: there are no flows in that period", file=sys.stderr)
            return exits.NO
        with session.connect(args) as client:
            parts = ReportParts(client, since, until, Labels.of(args))
            return cli.run(_analysis(args, part), parts.complete)


def _analysis(args: Namespace, part: Path) -> Namespace:
    """The arguments of `trafficctl analyze` for this report."""
    given = {"config": args.config, "top": args.top, "report": args.write, "output": args.output}
    return Namespace(files=[str(part)], **given, export_report=None, export_format="json")
