"""Undo a change of the rules: the latest, or the one with this number.

A change by hand is undone at once: a rule that was added is removed, and one that was removed or replaced comes back.
Your files are not changed without --write: for a rule in a file, the command prints the file, the line and the
necessary edit, and --write makes the edit. The exit code is 1 if you still have to edit a file. An undo is a change
too, with a number of its own, so you can undo it.

Examples:
  trafficctl history
  sudo trafficctl undo
  sudo trafficctl undo 17
  sudo trafficctl undo 17 --write
"""

import sys
from argparse import ArgumentParser, Namespace

from trafficctl import exits, session, values
from trafficmond.errors import ControlError
from trafficmond.figures import plain


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("number", nargs="?", metavar="N", type=values.count, help="its number (default: the latest)")
    parser.add_argument("--write", action="store_true", help="edit the files too")


def run(args: Namespace) -> int:
    from trafficctl import fileedits

    reply = session.call(args, "Undo", number=args.number)
    # From the bottom of a file upwards, so that line numbers stay right.
    edits = sorted(reply["edits"], key=lambda each: -(each.get("line") or 0))
    left, written = [], []
    for edit in edits:
        if args.write:
            try:
                written.append(fileedits.write(edit))
                continue
            except (ControlError, OSError) as error:
                print(f"trafficctl: {error}", file=sys.stderr)
        left.append(edit)
    lines = [f"change {reply['undone']}:", *(f"  {plain(each)}" for each in [*reply["done"], *written])]
    for edit in left:
        lines += [f"  {plain(each)}" for each in fileedits.described(edit)]
    if len(lines) == 1:
        lines.append("  nothing of it is left to undo")
    if left and not args.write:
        lines.append("make these edits yourself, or use --write")
    session.output(args).report({**reply, "written": written}, lambda *_: lines)
    session.print_notes(reply)
    return exits.NO if left else exits.DONE
