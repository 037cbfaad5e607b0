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

import os
import re
import stat
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trafficctl import exits, options, probation, session, values
from trafficctl.exits import UsageError
from trafficctl.render.style import Style
from trafficmond import figures, files
from trafficmond.config.lines import key_lines
from trafficmond.errors import ControlError


def arguments(parser: ArgumentParser) -> None:
    text = "a folder to use instead of cidr.d, a rules file or a settings file; the daemon must be able to read it"
    parser.add_argument("path", metavar="PATH", nargs="?", type=values.path, help=text)
    text = "the settings in force, with this policy.default"
    parser.add_argument("--default", choices=("allow", "monitor", "drop"), help=text)
    text = "put it on probation: it is taken back after this time unless confirmed (1 m unless given)"
    options.add(parser, "--confirm-within", default=60.0, help=text)


def run(args: Namespace) -> int:
    """Applies the files; the exit code is 1 if nothing changes."""
    if args.path and args.default:
        hint = "write the default into the settings file, or apply the two one after the other"
        raise UsageError("--default cannot be used with a path", hint)
    path = args.path
    if path and not files.is_there(path):
        raise UsageError(f"there is no {path}", "name a folder, a rules file or a settings file")
    with session.connect(args) as client:
        client.patient()
        if args.default:
            from trafficmond.config.settings import CONFIG_FILE

            named = client.call("Status")["config"].get("path")
            if named and not Path(named).exists():  # a copy of nothing would be all of the settings
                raise ControlError(f"there is no {named}", hint="put that file back first; it may be empty")
            path = write_copy(Path(named) if named else CONFIG_FILE, args.default)
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


_VALUE = re.compile(r"""(=\s*)["'][a-z]*["']""")
_SHOWN = re.compile(r"#\s*default\s*=")
_SHADOW = re.compile(r"\s*(?:policy\s*\.\s*)?default_shadow\s*=\s*true\b")


def write_copy(settings: Path, default: str) -> Path:
    """Writes a copy with this default beside `settings` and returns its path. Raises ControlError.

    `probation.forget_copy` removes the copy.
    """
    path = settings.with_name(f"{settings.stem}.apply-default-{default}.toml")
    try:
        text = files.read(settings).decode("utf-8-sig") if settings.exists() else ""
        status = settings.stat() if settings.exists() else None
        mode = stat.S_IMODE(status.st_mode) if status else 0o644
        files.replace(path, changed(text, default).encode(), mode=mode)
        if status:
            os.chown(path, -1, status.st_gid)
    except UnicodeDecodeError:
        raise ControlError(f"{settings} is not UTF-8", hint="see trafficctl check") from None
    except ValueError as error:
        hint = "edit a copy of it and test it: trafficctl apply COPY"
        raise ControlError(f"{settings}: {error}", hint=hint) from None
    except OSError as error:
        raise ControlError(f"{path} cannot be written: {error.strerror}", hint="use sudo") from None
    return path


def changed(text: str, default: str) -> str:
    """The text of the settings with this default, in force rather than in shadow. All else and comments stay.

    Raises ValueError if the default is written in a form that cannot be edited.
    """
    before = tomllib.loads(text)
    lines = [line for line in text.splitlines() if not _SHADOW.match(line)]
    keys = key_lines("\n".join(lines))
    if number := keys.get("policy.default"):
        lines[number - 1] = _VALUE.sub(rf'\1"{default}"', lines[number - 1], count=1)
    elif header := keys.get("policy"):  # below the commented example, if there is one
        shown = next((at for at in range(header, len(lines)) if _SHOWN.match(lines[at])), header - 1)
        lines.insert(shown + 1, f'default = "{default}"')
    elif "policy" not in before:
        lines += [*([""] if lines else []), "[policy]", f'default = "{default}"']
    after = "".join(f"{line}\n" for line in lines)
    wanted = {key: value for key, value in before.get("policy", {}).items() if key != "default_shadow"}
    found = tomllib.loads(after)
    policy = {key: value for key, value in found.get("policy", {}).items() if key != "default_shadow"}
    if {**found, "policy": policy} != {**before, "policy": {**wanted, "default": default}}:
        raise ValueError("the default is written in a form that this command cannot edit")
    return after
