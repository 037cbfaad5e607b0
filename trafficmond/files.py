"""A file that is replaced: whoever reads it finds the old one whole or the new one whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

UNFINISHED = ".tmp"  # how the name of one being written ends; it begins with a dot, and readers of folders pass it over


def replace(
    path: Path, data: bytes, *, mode: int | None = None, modified_ns: int | None = None, durable: bool = False
) -> None:
    """Writes `data` to a file beside it, and gives that its name. Raises OSError; the file is then as it was.

    `durable`: it is on the disk, under its name, when this returns.
    """
    fresh = path.with_name(f".{path.name}{UNFINISHED}"[-255:])
    try:
        with fresh.open("wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if modified_ns is not None:
            os.utime(fresh, ns=(modified_ns, modified_ns))
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Which names it has is on the disk when this returns. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
