"""Put settings and rules on probation: the kernel takes them back by itself unless they are confirmed in time.

A folder is judged in the place of cidr.d: copy that, change the copy, apply it. A rules file is judged beside those
of cidr.d, in the place of the one of its name. A settings file is judged in the place of trafficmond.toml, as to
rules: its default, allowlist and lists. --default is for the settings as they are, with another default. Without any
of these, settings and rules are taken as they are on the disk, those that were refused after a probation too.

Whatever becomes of this session, of the daemon and of the files, at the end of the time the kernel judges by what was
confirmed before.

Examples:
  sudo trafficctl apply --default drop --confirm-within 2m
  sudo trafficctl confirm                          keep it: the settings say so from now on
  sudo cp -a /etc/trafficmon/cidr.d /etc/trafficmon/cidr.new
  sudo trafficctl apply /etc/trafficmon/cidr.new   ... when it was changed; confirm puts it in the place of cidr.d
  sudo trafficctl apply /etc/trafficmon/30-web.toml
  sudo trafficctl apply                            the files as they are, for a minute
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trafficctl import exits, probation, session, values
from trafficctl.render import units
from trafficctl.render.style import Style
from trafficmond.errors import ControlError

_USUAL_S = 60.0


def arguments(parser: ArgumentParser) -> None:
    text = "a folder to use instead of cidr.d, a rules file or a settings file; the daemon must be able to read it"
    parser.add_argument("path", metavar="PATH", nargs="?", type=values.path, help=text)
    text = "the settings in force, with this policy.default"
    parser.add_argument("--default", choices=("allow", "monitor", "drop"), help=text)
    probation.argument(parser, _USUAL_S)


def run(args: Namespace) -> int:
    """Applies the files; the exit code is 1 if nothing changes."""
    if args.path and args.default:
        hint = "write the default into the settings file, or apply the two one after the other"
        raise ControlError("--default cannot be used with a path", name="usage", hint=hint)
    with session.connect(args) as client:
        client.patient()
        path = args.path
        if args.default:
            from trafficctl import default
            from trafficmond.config.settings import CONFIG_FILE

            named = client.call("Status")["config"].get("path")
            path = default.write_copy(Path(named) if named else CONFIG_FILE, args.default)
        folder = str(path.absolute()) if path else None
        try:
            reply = client.call("Apply", folder=folder, confirm_within_s=args.confirm_within)
        except ControlError:
            if args.default:
                path.unlink(missing_ok=True)
            raise
        if args.default and not reply["probation"]:
            path.unlink(missing_ok=True)
    session.output(args).report(reply, _render)
    return exits.DONE if reply["probation"] else exits.NO


def _render(reply: dict[str, Any], style: Style, _: int | None) -> Iterator[str]:
    if reply["probation"]:
        yield style.paint(probation.status_line(reply["probation"]), "yellow")
    for note in reply["notes"]:
        yield f"  {units.plain(note)}"
