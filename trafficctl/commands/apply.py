"""Put settings and rules on probation: the kernel takes them back by itself unless they are confirmed in time.

A folder is judged in the place of cidr.d: copy that, change the copy, apply it. A rules file is judged beside those
of cidr.d, in the place of the one of its name. Without either, settings and rules are taken as they are on the disk,
those that were refused after a probation too. Whatever becomes of this session, of the daemon and of the files, at
the end of the time the kernel judges by what was confirmed before.

Examples:
  sudo cp -a /etc/trafficmon/cidr.d /etc/trafficmon/cidr.new
  sudo trafficctl apply /etc/trafficmon/cidr.new --confirm-within 2m
  sudo trafficctl confirm                          keep it: it is put in the place of cidr.d
  sudo trafficctl apply /etc/trafficmon/30-web.toml
  sudo trafficctl apply                            the files as they are, for a minute
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from trafficctl import exits, probation, session, values
from trafficctl.render import units
from trafficctl.render.style import Style

_USUAL_S = 60.0


def arguments(parser: ArgumentParser) -> None:
    """Which rules, for how long."""
    text = "a folder in the place of cidr.d, or a rules file, where the daemon can read it"
    parser.add_argument("path", metavar="PATH", nargs="?", type=values.path, help=text)
    probation.argument(parser, _USUAL_S)


def run(args: Namespace) -> int:
    """Apply; 1 if nothing is different."""
    folder = str(args.path.absolute()) if args.path else None
    with session.connect(args) as client:
        client.patient()
        reply = client.call("Apply", folder=folder, confirm_within_s=args.confirm_within)
    session.output(args).report(reply, _tell)
    return exits.DONE if reply["probation"] else exits.NO


def _tell(reply: dict[str, Any], style: Style, _: int | None) -> Iterator[str]:
    if reply["probation"]:
        yield style.paint(probation.told(reply["probation"]), "yellow")
    for note in reply["notes"]:
        yield f"  {units.plain(note)}"
