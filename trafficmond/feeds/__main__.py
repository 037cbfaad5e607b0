"""The command line of `trafficmon-fetch`. Exit code: 0 success, 1 a list could not be fetched, 2 wrong settings."""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trafficmond import __version__
from trafficmond.config.load import credential_of, load_settings
from trafficmond.config.settings import CONFIG_FILE
from trafficmond.detect.registry import settings_classes
from trafficmond.errors import ConfigError, TrafficmonError
from trafficmond.feeds.fetch import fetch


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="trafficmon-fetch",
        description="Fetches the prefix lists that have a url in trafficmond.toml, and are due.",
        epilog="It is the program of trafficmon-fetch.timer. What it fetched last: trafficctl lists",
        allow_abbrev=False,
    )
    found.add_argument(
        "-c", "--config", type=Path, metavar="FILE", default=credential_of(CONFIG_FILE), help="settings of trafficmond"
    )
    found.add_argument("-a", "--all", action="store_true", help="fetch all of them, due or not")
    found.add_argument("--version", action="version", version=f"trafficmon-fetch {__version__}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        settings = load_settings(args.config, detectors=settings_classes())
        return 1 if fetch(settings, time.time, all_of_them=args.all) else 0
    except TrafficmonError as error:
        print(*(f"trafficmon-fetch: {line}" for line in error.lines()), sep="\n", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1


if __name__ == "__main__":
    sys.exit(main())
