"""Rules by hand that have an end, stored for the next start: a line of JSON per change.

Nothing depends on this file: unreadable lines are ignored and reported.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trafficmond import figures, files
from trafficmond.policy.rules import read_tables
from trafficmond.policy.tables import Table, begun_by

_MOST_DEAD = 256  # obsolete lines, before the file is rewritten

Key = tuple[str, str, tuple[str, ...]]  # prefix, direction, ports


class ByHand:
    """The file. Use from one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[Key, Mapping[str, Any]] = {}
        self._lines = 0
        self._whole = False  # whether the file is exactly `_kept`, so that appending a line is enough

    def read(self, now: float) -> tuple[list[Table], str]:
        """The rules that have not ended by `now` (epoch s), the latest last, and the error of the file, if any."""
        try:
            lines = files.read(self._path).splitlines()
        except FileNotFoundError:
            self._whole = True
            return [], ""
        except OSError as error:
            what = f"cannot be read ({error.strerror or error}); the rules made by hand that it keeps are not in force"
            return [], f"{self._path}: {what}"
        found: dict[Key, Table] = {}
        wrong = 0
        for line in lines:
            try:
                table = json.loads(line)
                key = _key(table)
                found.pop(key, None)
                if "action" in table:
                    if not isinstance(table["cidr"], str) or read_tables([table], "", own=True).mistakes:
                        raise ValueError(line)
                    found[key] = begun_by(table, now)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                wrong += 1
        self._kept = {key: table for key, table in found.items() if table.get("expires", 0) > now}
        self._lines, self._whole = len(lines), not wrong
        trouble = (
            f"{self._path}: {figures.many(wrong, 'line')} cannot be read; the rules made by hand there are lost"
            if wrong
            else ""
        )
        return [dict(table) for table in self._kept.values()], trouble

    def keep(self, tables: Sequence[Mapping[str, Any]]) -> None:
        """Stores the rules made by hand; those with an end are on the disk when this returns. Raises OSError."""
        wanted = {_key(table): table for table in tables if "expires" in table}
        gone = [key for key in self._kept if key not in wanted]
        known = self._kept
        new = [table for key, table in wanted.items() if (was := known.get(key)) is not table and was != table]
        lines = [json.dumps(dict(zip(("cidr", "direction", "ports"), key, strict=True))) for key in gone]
        lines += [json.dumps(table) for table in new]
        if not lines and self._whole:
            return
        if self._whole and self._lines + len(lines) <= 2 * len(wanted) + _MOST_DEAD:
            self._append(lines)
        else:
            self._replace([json.dumps(table) for table in wanted.values()])
        self._kept = wanted

    def _append(self, lines: Sequence[str]) -> None:
        self._whole = False  # until the write is complete
        files.append(self._path, "".join(f"{line}\n" for line in lines))
        self._lines += len(lines)
        self._whole = True

    def _replace(self, lines: Sequence[str]) -> None:
        files.replace(self._path, "".join(f"{line}\n" for line in lines).encode(), durable=True)
        self._lines, self._whole = len(lines), True


def _key(table: Mapping[str, Any]) -> Key:
    ports = tuple(map(str, table["ports"])) if "ports" in table else ()
    return str(table["cidr"]), str(table.get("direction", "ingress")), ports
