"""Put in force what is in shadow: a rule, a list, or the default.

A rule made by add-cidr --shadow is put in force at once. For a rule in one of your files, the command shows the file,
the line and the necessary edit; --write makes the edit, and the daemon reads the file when it changes. See first what
it would have done: trafficctl status.

The exit code is 1 if you still have to edit a file.

Examples:
  trafficctl promote scanners
  trafficctl promote scanners --confirm-within 60s     ... taken back by the kernel unless confirmed
  trafficctl promote "bad neighbours" --write
  trafficctl promote default
"""

import re
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from trafficctl import exits, options, session, values
from trafficctl.exits import UsageError
from trafficmond import files
from trafficmond.config.lines import key_lines
from trafficmond.control.client import Client
from trafficmond.errors import ControlError
from trafficmond.figures import plain

_BY_HAND = "runtime"
_SHADOW = re.compile(r"\s*(policy\s*\.\s*default_|default_)?shadow\s*=\s*true\s*(#.*)?")
_PATH = re.compile(r"""\s*path\s*=\s*["']([^"']+)["']\s*(#.*)?""")


class Line(NamedTuple):
    """A line of a file that is to be removed, counted from 1."""

    number: int
    text: str


def arguments(parser: ArgumentParser) -> None:
    text = "the label of a rule or list in shadow, the prefix if it has none, or default"
    parser.add_argument("label", metavar="LABEL", help=text)
    parser.add_argument("--write", action="store_true", help="edit the file that contains it")
    options.add(parser, "--confirm-within")


def run(args: Namespace) -> int:
    with session.connect(args) as client:
        found = _found(client, args.label)
        status = client.call("Status")
        saved = str(Path(status["store"]["path"]).parent / "rules.toml")
        by_hand = [row for row in found if row["path"] in (_BY_HAND, saved)]
        left = [row for row in found if row not in by_hand]
        if left and args.confirm_within_s and args.write:
            what = "--confirm-within is for rules made by hand, not for files"
            hint = "edit a copy of it and test it: trafficctl apply FILE --confirm-within 60s"
            raise UsageError(what, hint)
        made: dict[str, Any] = {"done": [], "edits": [], "written": [], "notes": []}
        with session.several_calls(lambda: "; ".join(made["done"])):
            for row in by_hand:
                _put_in_force(client, row, args, made, save=row["path"] == saved)
    for row in left:
        path = row["path"] if row["kind"] == "rule" else status["config"].get("path") or ""
        _edit(row, Path(path), made, write=args.write)
    session.output(args).report(made, _render)
    session.print_notes(made)
    return exits.NO if made["edits"] else exits.DONE


def _render(made: Mapping[str, Any], *_: object) -> Iterator[str]:
    yield from map(plain, [*made["done"], *made["written"]])
    for edit in made["edits"]:
        where = f"{edit['path']}:{edit['line']}" if edit["line"] else edit["path"]
        yield plain(f"{where}: {edit['edit']}")


def _found(client: Client, label: str) -> list[dict[str, Any]]:
    """The rules, lists and default in shadow with that label, each with all its prefixes. Raises ControlError."""
    found: dict[int, dict[str, Any]] = {}
    head: Mapping[str, Any] = {}
    for head in client.stream("Policy"):
        for row in head["rules"]:
            if row.get("shadow") and label in (row["name"], values.host(row["name"]), row.get("label")):
                found.setdefault(row["index"], {**row, "prefixes": []})["prefixes"].extend(row["prefixes"])
    if label == "default" and head.get("default_shadow"):
        return [{"kind": "default", "path": "policy.default_shadow", "line": 0}, *found.values()]
    if not found:
        hint = "see trafficctl status, which names what is in shadow"
        raise ControlError(f"nothing in shadow has the label {label!r}", hint=hint)
    return list(found.values())


def _put_in_force(client: Client, row: Mapping[str, Any], args: Namespace, made: dict[str, Any], *, save: bool) -> None:
    same = {name: row.get(name) for name in ("action", "direction", "label", "rate_per_s", "burst_packets", "ports")}
    for cidr in row["prefixes"]:
        left = {"ttl_s": max(1.0, row["expires"] - time.time())} if row.get("expires") else {}
        how = {"save": save or None, "confirm_within_s": args.confirm_within_s}
        reply = client.call("AddCidr", cidr=cidr, **same, **left, **how)
        made["done"].append(f"{cidr}: {row['action']} is in force")
        made["notes"] += [note for note in reply.get("notes") or () if note not in made["notes"]]


def _edit(row: Mapping[str, Any], path: Path, made: dict[str, Any], *, write: bool) -> None:
    """Adds the edit of a file to `made`, or with `write` makes it."""
    from trafficctl import fileedits

    text = files.read(path).decode("utf-8-sig")
    line = line_of(row, text)
    if line and write:
        fileedits.take_out(path, text, line.number - 1, line.number)
        made["written"].append(f"{path}:{line.number}: removed: {line.text}")
        return
    what = "this command cannot edit this file as it is written; remove shadow = true at that label yourself"
    if line:
        what = f"remove this line (--write does): {line.text}"
    made["edits"].append({"path": str(path), "line": line and line.number, "edit": what})


def line_of(row: Mapping[str, Any], text: str) -> Line | None:
    """The line that puts a rule, a list or the default in shadow; None if it is written in another way.

    A list is found by the end of its path: the settings may name only that.
    """
    lines, keys = text.splitlines(), key_lines(text)
    name = "policy.default_shadow"
    if row["kind"] == "list":
        paths = ((key, _PATH.fullmatch(lines[at - 1])) for key, at in keys.items() if key.endswith(".path"))
        table = next((key for key, found in paths if found and row["path"].endswith(found[1])), "")
        name = f"{table.removesuffix('.path')}.shadow"
    elif row["kind"] == "rule":
        name = f"{next((key for key, at in keys.items() if at == row['line']), '')}.shadow"
    number = keys.get(name, 0)
    written = lines[number - 1].strip() if number else ""
    return Line(number, written) if _SHADOW.fullmatch(written) else None
