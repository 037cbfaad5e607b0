"""A folder of rules in the place of cidr.d, the old one kept: done by whoever confirms, as the daemon may not."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from trafficmond.errors import ControlError

_HINT = "nothing was confirmed; do it with sudo before the probation is over"


@contextlib.contextmanager
def installed(folder: Path, cidr_dir: Path) -> Iterator[Path]:
    """While the block lasts, and for good unless it raises, `cidr_dir` holds what `folder` does. Where the old one is.

    Raises ControlError if it may not be written; then all is as it was.
    """
    fresh = cidr_dir.with_name(f".{cidr_dir.name}.new")
    kept = cidr_dir.with_name(f"{cidr_dir.name}.{time.strftime('%Y%m%d-%H%M%S')}")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(folder, fresh, symlinks=True)
        shutil.copystat(cidr_dir, fresh)
        cidr_dir.rename(kept)
        fresh.rename(cidr_dir)
    except (OSError, shutil.Error) as error:
        if kept.exists() and not cidr_dir.exists():
            kept.rename(cidr_dir)
        shutil.rmtree(fresh, ignore_errors=True)
        why = getattr(error, "strerror", "") or error
        raise ControlError(f"{folder} cannot be put in the place of {cidr_dir}: {why}", hint=_HINT) from None
    try:
        yield kept
    except BaseException:
        cidr_dir.rename(fresh)
        kept.rename(cidr_dir)
        shutil.rmtree(fresh, ignore_errors=True)
        raise
