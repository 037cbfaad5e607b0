"""`trafficctl analyze`: its arguments, and how it runs. Large modules are imported only when it runs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trafficmond import files, heap
from trafficmond.analyze.progress import Bar
from trafficmond.later import numpy_alone

if TYPE_CHECKING:
    from trafficmond.config.settings import Settings

_TOP_MAX = 1000


def add_arguments(parser: ArgumentParser) -> None:
    """Adds the arguments of the command to the global ones (`output` is the format of the printed report)."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="a log, a capture or flow records; - reads a pipe")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="read the detectors' settings from this file")
    parser.add_argument(
        "--top", type=_top, default=10, metavar="N", help="rows in each list of talkers and flows (default: 10)"
    )
    parser.add_argument("--report", type=Path, metavar="OUT.html", help="write a self-contained HTML report as well")
    parser.add_argument("--export-report", type=Path, metavar="OUT", help="write the report as JSON or CSV as well")
    parser.add_argument(
        "--export-format", choices=("json", "csv"), default="json", help="the format of --export-report (default: json)"
    )


def run(args: Namespace, complete: Callable[[dict[str, Any]], None] = lambda _: None) -> int:
    """Analyses files; returns the exit code. `complete` may add to the report. Raises TrafficmonError."""
    with numpy_alone():
        from trafficmond.analyze.run import analyze

    heap.share()
    heap.keep_large_apart()
    bar = Bar("reading")
    try:
        report = analyze(args.files, _settings(args.config), time.time(), top=args.top, tick=bar.show)
    finally:
        bar.clear()
    complete(report)
    sys.stdout.write(_shown(report, args.output))
    sys.stdout.flush()
    if args.report:
        from trafficmond.analyze.render import page

        files.write(args.report, page.render(report))
    if args.export_report:
        from trafficmond.analyze.render import data

        files.write(args.export_report, data.to_csv(report) if args.export_format == "csv" else data.to_json(report))
    return 0


def _shown(report: dict[str, Any], output: str) -> str:
    encoding = sys.stdout.encoding or "ascii"
    escaped = not encoding.lower().startswith("utf")
    if output == "jsonl":
        return json.dumps(report, ensure_ascii=escaped) + "\n"
    if output in ("json", "csv"):
        from trafficmond.analyze.render import data

        return data.to_csv(report) if output == "csv" else data.to_json(report, escaped=escaped)
    from trafficmond.analyze.render import text

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    return text.render(report, shutil.get_terminal_size((100, 24)).columns, colour=colour, encoding=encoding)


def _settings(path: Path | None) -> Settings:
    """The settings from the given file, else those of the daemon if they can be read, else the defaults."""
    from trafficmond.config.load import load_settings
    from trafficmond.config.settings import CONFIG_FILE
    from trafficmond.detect.registry import settings_classes

    if path is None and CONFIG_FILE.exists() and not os.access(CONFIG_FILE, os.R_OK):
        print(f"trafficctl: {CONFIG_FILE} cannot be read (no permission); the defaults are used", file=sys.stderr)
        path = Path(os.devnull)
    return load_settings(path, detectors=settings_classes())


def _top(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _TOP_MAX:
        raise ArgumentTypeError(f'"{text}" is not a number from 1 to {_TOP_MAX}')
    return int(text)
