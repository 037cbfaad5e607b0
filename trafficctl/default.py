"""Writes a copy of the settings with another policy.default beside the original, to be put on probation."""

import os
import re
import stat
import tomllib
from pathlib import Path

from trafficmond import files
from trafficmond.errors import ControlError

_POLICY = re.compile(r"\s*\[\s*policy\s*\]\s*(#.*)?")
_HEADER = re.compile(r"\s*\[")
_DEFAULT = re.compile(r"""(\s*(?:policy\s*\.\s*)?default\s*=\s*)["'][a-z]*["'](.*)""")
_SHOWN = re.compile(r"#\s*default\s*=")
_SHADOW = re.compile(r"\s*(?:policy\s*\.\s*)?default_shadow\s*=\s*true\b")


def write_copy(settings: Path, default: str) -> Path:
    """Writes a copy with this default beside `settings` and returns its path. Raises ControlError.

    `probation.forget_copy` removes the copy.
    """
    path = settings.with_name(f"{settings.stem}.apply-default-{default}.toml")
    try:
        text = files.read(settings).decode("utf-8") if settings.exists() else ""
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
    start = next((at for at, line in enumerate(lines) if _POLICY.fullmatch(line)), None)
    if start is None and "policy" not in before:
        lines += [*([""] if lines else []), "[policy]", f'default = "{default}"']
    else:
        first = 0 if start is None else start + 1
        end = next((at for at in range(first, len(lines)) if _HEADER.match(lines[at])), len(lines))
        _set_default(lines, first, end, default)
    after = "".join(f"{line}\n" for line in lines)
    wanted = {key: value for key, value in before.get("policy", {}).items() if key != "default_shadow"}
    found = tomllib.loads(after)
    policy = {key: value for key, value in found.get("policy", {}).items() if key != "default_shadow"}
    if {**found, "policy": policy} != {**before, "policy": {**wanted, "default": default}}:
        raise ValueError("the default is written in a form that this command cannot edit")
    return after


def _set_default(lines: list[str], first: int, end: int, default: str) -> None:
    """Changes the line of the default between `first` and `end`, or inserts one below its commented example."""
    for at in range(first, end):
        if found := _DEFAULT.fullmatch(lines[at]):
            lines[at] = f'{found[1]}"{default}"{found[2]}'
            return
    shown = next((at for at in range(first, end) if _SHOWN.match(lines[at])), first - 1)
    lines.insert(shown + 1, f'default = "{default}"')
