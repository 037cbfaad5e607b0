"""The targets of trafficmon-notify: what was sent to each, what is waiting, and why a target fails.

--test sends one message to every target of /etc/trafficmon/notify.toml at once, even if the service does not run; root
sends as the service's user. The exit code is 1 if a target did not accept it. The daemon is not needed.

Examples:
  sudo trafficctl notify
  sudo trafficctl notify --test
  trafficctl notify --test --config ./notify.toml
"""

import os
import pwd
import socket
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trafficctl import exits, options, session
from trafficctl.render.table import Column
from trafficmond import figures
from trafficmond.control.client import FORBIDDEN
from trafficmond.dataclass import asdict
from trafficmond.errors import ControlError, TrafficmonError

_USER = "trafficmon-notify"
_STATES = (
    Column("name", "TARGET", weight=9),
    Column("messages", "MESSAGES", figures.exact, right=True, weight=6),
    Column("last_sent", "LAST", figures.when, weight=6),
    Column("waiting", "WAITING", figures.exact, right=True, weight=8),
    Column("lost", "LOST", figures.exact, right=True, weight=4),
    Column("failing_since", "FAILING SINCE", figures.when, weight=6),
    Column("error", "WHY", weight=7, shrinks_to=20),
)
_TRIED = (
    Column("name", "TARGET", weight=9),
    Column("delivered", "DELIVERED", lambda done: "yes" if done else "no", weight=9, meaningful=True),
    Column("took_s", "TOOK", figures.span, right=True, weight=5),
    Column("error", "WHY NOT", weight=8, shrinks_to=20),
)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--test", action="store_true", help="send one message to every target")
    options.config(parser, "targets (/etc/trafficmon/notify.toml)")


def run(args: Namespace) -> int:
    try:
        rows = list(_tried(args.config) if args.test else _known())
    except PermissionError as error:
        raise ControlError(f"not permitted to read {error.filename}", name=FORBIDDEN, hint="use sudo") from None
    session.output(args).rows(rows, _TRIED if args.test else _STATES, empty="no targets")
    return exits.NO if any(row["error"] for row in rows) else exits.DONE


def _known() -> Iterator[dict[str, Any]]:
    from trafficmond.notifier.outbox import states
    from trafficmond.notifier.settings import STATE_DIR

    try:
        yield from map(asdict, states(STATE_DIR))
    except FileNotFoundError:
        hint = "write /etc/trafficmon/notify.toml, then: sudo systemctl enable --now trafficmon-notify"
        raise TrafficmonError("trafficmon-notify has never run here", hint=hint) from None


def _tried(config: Path | None) -> Iterator[dict[str, Any]]:
    from trafficmond.notifier.command import Undelivered
    from trafficmond.notifier.message import trial_message
    from trafficmond.notifier.settings import NOTIFY_FILE, load
    from trafficmond.notifier.transports import transports

    path = config or NOTIFY_FILE
    settings = load(path)
    _be_the_service()
    for name, transport in transports(settings, str(path)).items():
        began, error = time.monotonic(), ""
        try:
            transport.deliver(trial_message(socket.gethostname()))
        except Undelivered as failure:
            error = str(failure)
        yield {"name": name, "delivered": not error, "took_s": round(time.monotonic() - began, 3), "error": error}


def _be_the_service() -> None:
    """If this is root, becomes the user of the service, so that commands are tested as that user."""
    if os.geteuid() != 0:
        return
    try:
        user = pwd.getpwnam(_USER)
    except KeyError:
        return  # not installed from the package
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ["HOME"] = user.pw_dir
