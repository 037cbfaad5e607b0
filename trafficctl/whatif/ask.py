"""Runs a comparison for a command: reads rules and flows, judges, and shows the result."""

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from trafficctl import exits, session
from trafficctl.exits import UsageError
from trafficctl.render.whatif import render
from trafficctl.whatif import rules
from trafficctl.whatif.answer import answer
from trafficctl.whatif.flows import Reader, latest
from trafficctl.whatif.rules import RuleSnapshot
from trafficctl.whatif.run import Before, judge_all
from trafficmond.control.client import UNREACHABLE
from trafficmond.dataclass import replace
from trafficmond.errors import Advice, ConfigError, ControlError, StoreError
from trafficmond.figures import plain
from trafficmond.store.query import MAX_LIMIT

_DAY_S = 86_400


def ask(args: Namespace, changed: Callable[[RuleSnapshot], RuleSnapshot], since: float | None = None) -> int:
    """Judges flows by the rules in force and by those that `changed` makes of them, and shows the differences.

    `since`: epoch seconds; None: for a day. Returns the exit code. Mistakes, and flows that cannot be read, are
    ControlErrors with other exit codes.
    """
    try:
        return _ask(args, changed, time.time() - _DAY_S if since is None else since)
    except ConfigError as error:
        text = "\n".join(str(mistake) for mistake in error.mistakes)
        raise UsageError(text, error.hint or "nothing was judged") from None
    except StoreError as error:
        raise ControlError(str(error.args[0]), name=UNREACHABLE, hint=error.hint) from error


def ask_about(args: Namespace, cidr: str, changed: Callable[[RuleSnapshot], RuleSnapshot]) -> int:
    """The same for a change of one prefix, with a note on addresses in it that the guard spares."""

    def changed_with_notes(now: RuleSnapshot) -> RuleSnapshot:
        found = rules.spared(now.policy(), cidr)
        more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
        notes = (Advice(cidr, f"the guard protects {found[0]}{more}"),) if found else ()
        return replace(changed(now), notes=notes)

    return ask(args, changed_with_notes)


def _ask(args: Namespace, changed: Callable[[RuleSnapshot], RuleSnapshot], since: float) -> int:
    with session.connect(args) as client:
        client.patient()
        reader = Reader(Path(client.call("Status")["store"]["path"]))
        now = rules.in_force(client)
        then = changed(now)
        known = reader.edge()
        pages = client.stream("Flows", since=since, limit=MAX_LIMIT, unstored=True)
        live = [row for page in pages for row in page["rows"]]
    edge = reader.edge()
    rows = latest(live, reader.between(known, edge, since))
    for note in then.notes:
        print(f"note: {plain(note)}", file=sys.stderr)
    before = Before.of(now, then, time.time())
    tally = judge_all(before, reader.path, known, since, rows)
    session.output(args).report(answer(before, tally, reader, rows, since), render)
    return exits.NO if tally.differs else exits.DONE
