"""Put settings and rules on probation: unless you confirm them in time, the kernel takes them back by itself.

A folder is used instead of cidr.d: copy cidr.d, change the copy, apply it. A rules file is used together with those of
cidr.d, and replaces the one with its name. Of a settings file, only the rules are used (default, allowlist and lists),
instead of those in trafficmond.toml. --default uses the present settings with another default. Without any of these,
settings and rules are used as they are on disk, even if they were refused after an earlier probation.

When the time is over, the kernel returns to what was confirmed before, even if this session or the daemon has ended.

Examples:
  sudo trafficctl apply --default drop --confirm-within 2m
  sudo trafficctl confirm                          keep it, also in the settings file
  sudo cp -a /etc/trafficmon/cidr.d /etc/trafficmon/cidr.new
  sudo trafficctl apply /etc/trafficmon/cidr.new   ... after you changed it; confirm replaces cidr.d with it
  sudo trafficctl apply /etc/trafficmon/30-web.toml
  sudo trafficctl apply                            the files as they are, for a minute
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trafficctl import exits, probation, session, values
from trafficctl.exits import UsageError
from trafficctl.render.style import Style
from trafficmond import figures
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
        raise UsageError("--default cannot be used with a path", hint)
    with session.connect(args) as client:
        client.patient()
        path = args.path
        if args.default:
            from trafficctl import default
            from trafficmond.config.settings import CONFIG_FILE

            named = client.call("Status")["config"].get("path")
            if named and not Path(named).exists():  # a copy of nothing would be all of the settings
                raise ControlError(f"there is no {named}", hint="put it back first; an empty file means the defaults")
            path = default.write_copy(Path(named) if named else CONFIG_FILE, args.default)
        folder = str(path.absolute()) if path else None
        try:
            reply = client.call("Apply", folder=folder, confirm_within_s=args.confirm_within_s)
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
        yield ("  " if reply["probation"] else "") + figures.plain(note)
