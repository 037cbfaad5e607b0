"""The JSON configuration of the program that trafficmon re-creates. Its paths start at the working folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trafficmond.config.checks import prefix
from trafficmond.config.declare import Report, read, setting, table
from trafficmond.config.settings import Settings
from trafficmond.config.streams import Log
from trafficmond.dataclass import dataclass, replace

_MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class _OriginalLogging:
    format: str = setting("console", choices=("console", "json", "jsonl", "csv"), help="")
    output_file: str = setting("", help="")
    buffer_size: int = setting(8192, min=1, max=1 << 22, help="")
    rotate_size_mb: int = setting(100, min=0, max=1 << 20, help="")
    max_files: int = setting(10, min=0, max=10000, help="")


@dataclass(frozen=True)
class _Original:
    permitted_cidrs: tuple[str, ...] = setting((), check=prefix, required=True, help="a list of CIDR prefixes")
    logging: _OriginalLogging | None = table(_OriginalLogging, "logging", help="")


def parse(raw: Any, report: Report) -> Settings:
    if not isinstance(raw, Mapping):
        report("permitted_cidrs", 'the file must hold an object, such as {"permitted_cidrs": ["192.168.1.0/24"]}')
        return Settings()
    found = read(_Original, raw, report)
    settings = Settings(permitted_cidrs=found.permitted_cidrs, logs=(Log(format="console"),))
    if "logging" not in raw or found.logging is None:
        return settings
    own = found.logging
    log = Log(
        format=own.format,
        path=Path.cwd() / own.output_file if own.output_file else None,
        buffer_size=own.buffer_size,
        rotate_size=own.rotate_size_mb * _MEBIBYTE,
        max_files=own.max_files,
    )
    return replace(settings, logs=(log,))
