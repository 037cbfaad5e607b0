"""Puts confirmed rules in their place and keeps what was there. The client does it: the daemon may not write there."""

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from trafficmond.errors import ControlError

_HINT = "nothing was confirmed; use sudo, before the probation ends"


@contextlib.contextmanager
def installed(tried: Path, place: Path, *, hide: bool = False) -> Iterator[Path | None]:
    """Copies `tried`, a folder or a file, to `place` for the time of the block, and for good unless the block raises.

    Yields the path to which the former content of `place` was renamed, hidden if `hide`; None if there was none. Raises
    ControlError if `place` cannot be written; then nothing has changed.
    """
    if not tried.exists():
        hint = "put it back, or take back what is on probation: trafficctl rollback"
        raise ControlError(f"{tried}, which is on probation, no longer exists", hint=hint)
    now = time.strftime("%Y%m%d-%H%M%S")
    kept = _free(place.with_name(f"{'.' if hide else ''}{place.name}.{now}"))
    fresh = place.with_name(f".{place.name}.new")
    there = place.exists()
    try:
        _remove(fresh)
        _copy(tried, fresh)
        if there:
            shutil.copystat(place, fresh)
            place.rename(kept)
        fresh.rename(place)
    except (OSError, shutil.Error) as error:
        if there and not place.exists():
            kept.rename(place)
        with contextlib.suppress(OSError):
            _remove(fresh)
        why = getattr(error, "strerror", "") or error
        raise ControlError(f"{tried} cannot be put in place as {place}: {why}", hint=_HINT) from None
    try:
        yield kept if there else None
    except BaseException:
        place.rename(fresh)
        if there:
            kept.rename(place)
        _remove(fresh)
        raise


def _free(path: Path) -> Path:
    """`path`, or `path` with a number if it exists: from an earlier confirm in the same second."""
    names = itertools.chain([path], (path.with_name(f"{path.name}.{number}") for number in itertools.count(2)))
    return next(each for each in names if not os.path.lexists(each))


def _copy(path: Path, fresh: Path) -> None:
    if path.is_dir():
        shutil.copytree(path, fresh, symlinks=True)
    else:
        shutil.copy2(path, fresh)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
