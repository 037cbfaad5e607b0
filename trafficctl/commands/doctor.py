"""Check this host: settings, kernel, permissions, programs, interfaces, disk, clock, daemon.

Each finding is ok, warn (works, but less well) or fail (does not work), with what to do about it. Needs no daemon;
as root it sees more, and tries to load the programs. The exit code is 1 if anything fails.

Examples:
  sudo trafficctl doctor
  trafficctl doctor -o json | jq '.[] | select(.state != "ok")'
  trafficctl doctor --config ./trafficmond.toml
"""

import dataclasses
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence

from trafficctl import exits, options, session
from trafficctl.render import table
from trafficctl.render.style import Style
from trafficmond import figures


def arguments(parser: ArgumentParser) -> None:
    options.config(parser, "settings (/etc/trafficmon/trafficmond.toml)")


def run(args: Namespace) -> int:
    from trafficctl.doctor import EXAMINATIONS
    from trafficctl.doctor.examination import FAIL, Host
    from trafficmond.config.load import load_settings
    from trafficmond.config.settings import Settings
    from trafficmond.detect.registry import settings_classes
    from trafficmond.errors import ConfigError

    try:
        settings = load_settings(args.config, detectors=settings_classes())
    except ConfigError:  # the first examination reports all mistakes
        settings = Settings()
    host = Host(settings, args.config, socket=args.socket)
    findings = (finding for examine in EXAMINATIONS for finding in examine(host))
    rows, output = [dataclasses.asdict(finding) for finding in findings], session.output(args)
    if output.human:
        output.lines(render(rows, output.style, output.width))
    else:
        output.rows(rows, ())
    return exits.NO if any(row["state"] == FAIL for row in rows) else exits.DONE


def render(rows: Sequence[dict[str, str]], style: Style, width: int | None) -> Iterator[str]:
    margin = min(24, max((len(row["subject"]) for row in rows), default=0)) + 8
    room = max(24, (width or 1000) - margin)
    for row in rows:
        subject = table.clip(figures.plain(row["subject"]), margin - 8)
        what, *more = table.hung(row["what"], room)
        yield style.word(row["state"].ljust(6)) + table.pad(subject, margin - 6) + what
        more += [style.dim(line) for line in table.hung(row["advice"], room, "-> ", "   ") if row["advice"]]
        yield from (" " * margin + line for line in more)
    states = Counter(row["state"] for row in rows)
    summary = ", ".join(f"{states[state]} {style.word(state)}" for state in ("fail", "warn", "ok") if states[state])
    yield ""
    yield summary
