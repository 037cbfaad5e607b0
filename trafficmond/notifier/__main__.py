"""The command line of `trafficmon-notify`. Exit status: 0 after SIGTERM, 1 for an error, 2 for invalid settings."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from trafficmond import __version__
from trafficmond.config.load import credential_of
from trafficmond.errors import ConfigError, TrafficmonError
from trafficmond.notifier.service import serve
from trafficmond.notifier.settings import NOTIFY_FILE, STATE_DIR, load
from trafficmond.notifier.transports import transports


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="trafficmon-notify",
        description="Sends notifications about threats that trafficmond finds.",
        epilog="It is the program of trafficmon-notify.service. Try the targets with: trafficctl notify --test",
        allow_abbrev=False,
    )
    found.add_argument("-c", "--config", type=Path, metavar="FILE", default=credential_of(NOTIFY_FILE), help="settings")
    found.add_argument(
        "-d",
        "--state-dir",
        type=Path,
        metavar="DIR",
        default=Path(os.environ.get("STATE_DIRECTORY") or STATE_DIR),
        help="the file for messages that were sent or are waiting",
    )
    found.add_argument("-t", "--test", action="store_true", help="check the settings, list every mistake, and exit")
    found.add_argument("--version", action="version", version=f"trafficmon-notify {__version__}")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the service until a signal ends it, and returns the exit status."""
    args = parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        settings = load(args.config)
        ways = transports(settings, str(args.config))
        if args.test:
            print(f"{args.config}: OK, {len(ways)} target{'s' * (len(ways) != 1)}")
            return 0
        serve(settings, ways, args.state_dir)
    except TrafficmonError as error:
        print(*(f"trafficmon-notify: {line}" for line in error.lines()), sep="\n", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    except OSError as error:
        print(f"trafficmon-notify: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
