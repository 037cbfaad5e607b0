"""Translate another firewall's rules; needs no daemon, and changes nothing.

It prints a rules file with the same effect on incoming and outgoing packets. In the other firewall the first matching
rule decides, here the longest prefix, so the rules usually look different. Rules that cannot be translated (NAT, marks,
interfaces, rates for all sources together) are left out and listed on standard error with their line; then the exit
code is 1. Read docs/migrating.md before you put the file in force.

FILE is the output of iptables-save or nft list ruleset, a file for nft -f, a zone of firewalld, /etc/ufw, or its
user.rules. You can give several files, such as those for IPv4 and IPv6. Without a file, or with -, standard input is
read.

Examples:
  trafficctl import --from ufw /etc/ufw > 20-ufw.toml
  nft list ruleset | trafficctl import --from nft
  sudo iptables-save | trafficctl import --from iptables-save -
  trafficctl import --from firewalld /etc/firewalld/zones/public.xml
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from trafficctl import exits, rulelines, session
from trafficctl.exits import UsageError
from trafficctl.imports.decide import Decided
from trafficctl.imports.ruleset import ACCEPT, DROP, Ruleset, short
from trafficmond import services

_SETTINGS = Path("/etc/default/ufw")
_MOST = 32 << 20  # characters
_PROGRAMS = ("ufw", "nft", "iptables-save", "firewalld")
_UFW = ("before", "user", "after")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--from", dest="source", choices=_PROGRAMS, help="the program whose rules are translated")
    parser.add_argument("files", nargs="*", metavar="FILE", help="files that hold the rules; - reads standard input")


def run(args: Namespace) -> int:
    from trafficctl.imports import decide, firewalld, iptables, nft

    if args.output not in ("human", "toml"):
        hint = "leave -o out: import prints a rules file in TOML"
        raise UsageError(f"-o {args.output} cannot be used with import", hint)
    if args.source is None and args.files[:1] and args.files[0] in _PROGRAMS:  # import ufw
        args.source = args.files.pop(0)
    if args.source is None:
        hint = f"write --from and one of {', '.join(_PROGRAMS)}: trafficctl import --from ufw"
        raise UsageError("the program whose rules are to be translated is not named", hint)
    files = list(_files(args))
    if args.source == "ufw":
        ruleset = iptables.read_ufw(files, settings_of_ufw(args.files))
    else:
        ruleset = {"nft": nft.read, "iptables-save": iptables.read, "firewalld": firewalld.read}[args.source](files)
    default, rules = decide.decide(ruleset)
    for line in lines(ruleset, default, rules, args.source):
        print(line)
    for note in ruleset.notes:
        print(note if note.lost else f"note: {note}", file=sys.stderr)
    return exits.NO if any(note.lost for note in ruleset.notes) else exits.DONE


def settings_of_ufw(names: Sequence[str]) -> str:
    """The text of /etc/default/ufw: of this host for its own rules, of the copy for rules in a copy of /etc."""
    for name in names or ["/etc/ufw"]:
        given = Path(name)
        folder = given if given.is_dir() else given.parent
        path = _SETTINGS if folder == Path("/etc/ufw") else folder.parent / "default" / "ufw"
        if folder.name == "ufw" and path.exists():
            return path.read_text()
    return ""


def _files(args: Namespace) -> Iterator[tuple[str, str]]:
    names = args.files or (["/etc/ufw"] if args.source == "ufw" else ["-"])
    for name in names:
        if name == "-":
            if sys.stdin.isatty():
                session.print_waiting(f"paste the rules of {args.source}; Ctrl-D ends")
            yield "standard input", _read("standard input", sys.stdin)
            continue
        path = Path(name)
        if path.is_dir() and args.source == "ufw":
            found = [path / f"{part}{six}.rules" for six in ("", "6") for part in _UFW]
            yield from ((str(each), _opened(each)) for each in found if each.exists())
        elif path.is_dir():
            raise UsageError(f"{name} is a folder", "name the files")
        else:
            yield name, _opened(path)


def _opened(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return _read(str(path), file)


def _read(name: str, file: TextIO) -> str:
    text = file.read(_MOST + 1)
    if len(text) > _MOST:
        raise UsageError(f"{name} is larger than {_MOST >> 20} MiB")
    return text


_ACTIONS = {ACCEPT: "allow", DROP: "drop"}
_MOST_LABEL = 200


def lines(ruleset: Ruleset, default: str, rules: Sequence[Decided], source: str) -> Iterator[str]:
    """The rules file: each rule with the line that it comes from."""
    yield f"# Made by trafficctl import of {source}. Check it with trafficctl check, then put it into cidr.d."
    yield "# Use it with these settings in trafficmond.toml:"
    yield "#   [policy]"
    yield f'#   default = "{_ACTIONS[default]}"'
    if default == DROP and not ruleset.established:
        yield "#   established = false      # no imported rule lets replies pass"
    for rule in rules:
        yield ""
        yield f"# {rule.line.where}: {short(rule.line.text)}" if rule.line else "# what no line decides"
        yield from rulelines.table(
            {
                "cidr": list(rule.cidrs),
                "action": _ACTIONS[rule.action],
                "direction": "egress" if rule.egress else None,
                "ports": services.text(rule.places) if rule.places else None,
                "label": "".join(filter(str.isprintable, rule.line.label))[:_MOST_LABEL] or None if rule.line else None,
            }
        )
