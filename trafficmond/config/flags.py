"""The daemon's command line. A flag overrides the setting of the same meaning in the file."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from trafficmond import __version__
from trafficmond.config.checks import interface_pattern
from trafficmond.config.declare import spec_of
from trafficmond.config.formats import BY_NAME
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.config.streams import Log
from trafficmond.dataclass import dataclass

_WIDTH = 78  # of --help; to ask the terminal, argparse imports compressors: 2 ms of a start


@dataclass(frozen=True)
class Flags:
    """The values of the flags; None or empty: not given."""

    config: Path | None = None
    interfaces: tuple[str, ...] = ()
    drop_packets: bool = False
    log_format: str | None = None
    log_file: Path | None = None
    log_buffer_size: int | None = None
    xdp_mode: str | None = None
    test: bool = False
    verbose: bool = False
    on_stop: str | None = None
    detach: str | None = None  # "always", or "configured": unless on_stop is keep


def parse_flags(argv: Sequence[str]) -> Flags:
    """Parses `argv` (without the program's name). Exits like argparse: 0 for --help, 2 for a mistake."""
    found = vars(_parser().parse_args(argv))
    found["interfaces"] = tuple(found["interfaces"])
    if found["log_file"] is not None:
        found["log_file"] = Path.cwd() / found["log_file"]
    return Flags(**found)


def _parser() -> argparse.ArgumentParser:
    mode, on_stop = (spec_of(Settings, name) for name in ("xdp_mode", "on_stop"))
    buffer_size = spec_of(Log, "buffer_size")
    parser = argparse.ArgumentParser(
        prog="trafficmond",
        description="Watches and filters network traffic with XDP. A flag overrides the configuration file.",
        epilog="Talk to the running daemon with trafficctl. Settings are explained in trafficmond.toml(5).",
        allow_abbrev=False,
        formatter_class=partial(argparse.HelpFormatter, width=_WIDTH),
    )
    add = parser.add_argument
    add(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help=f"configuration: TOML, or JSON with permitted_cidrs (default: {CONFIG_FILE} where it exists)",
    )
    add(
        "-i",
        "--iface",
        "--interface",
        dest="interfaces",
        action="append",
        default=[],
        type=_checked(interface_pattern),
        metavar="IFACE",
        help="interface to watch: a name, a glob or a /regex/; may be repeated",
    )
    add("--drop-packets", action="store_true", help="drop what no rule permits, instead of only logging it")
    add("--log-format", choices=tuple(BY_NAME), help="write one log, in this format, in place of the file's [[log]]s")
    add("--log-file", type=Path, metavar="FILE", help="... to this file (default: standard output)")
    add(
        "--log-buffer-size",
        type=_checked(lambda text: buffer_size.parse(int(text))),
        metavar="N",
        help=_sentence(buffer_size.help),
    )
    add("-m", "--xdp-mode", choices=mode.choices, help=_sentence(mode.help))
    add("-t", "--test", action="store_true", help="check the configuration, list mistakes, and exit")
    add("-v", "--verbose", action="store_true", help="print the daemon's less urgent messages too")
    add("--on-stop", choices=on_stop.choices, help=_sentence(on_stop.help))
    add(
        "--detach",
        nargs="?",
        const="always",
        choices=("always", "configured"),
        help="in an emergency: detach all programs of trafficmon, and exit; configured: only if on_stop is not keep",
    )
    add("--version", action="version", version=f"trafficmond {__version__}")
    return parser


def _checked(parse: Any) -> Any:
    def convert(text: str) -> Any:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _sentence(text: str) -> str:
    return (text[0].lower() + text[1:].rstrip(".") if text[1].islower() else text.rstrip(".")).replace("%", "%%")
