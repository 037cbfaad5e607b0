"""A complete answer: in memory while it is small, else in a temporary file."""

import itertools
import marshal
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from trafficmond.errors import StoreError

Row = dict[str, Any]

_KEPT_BYTES = 1 << 20  # in memory


class Answer:
    """Rows of an answer, kept so that a slow reader holds neither a transaction nor memory."""

    def __init__(self, rows: Iterable[tuple[Any, ...]], columns: Sequence[str], folder: Path, page_rows: int) -> None:
        """Reads all rows. Raises StoreError if they do not fit into `folder`."""
        self._columns = columns
        self._spool = tempfile.SpooledTemporaryFile(_KEPT_BYTES, dir=str(folder))  # noqa: SIM115  (see close)
        self._sizes: list[int] = []
        rows = iter(rows)
        try:
            while page := list(itertools.islice(rows, page_rows)):
                self._sizes.append(self._spool.write(marshal.dumps(page)))
            self._spool.seek(0)
        except OSError as error:
            self.close()
            raise StoreError(
                f"{folder}: the result cannot be stored: {error}", hint="ask for less, or free some space"
            ) from error
        except BaseException:
            self.close()
            raise

    def pages(self) -> Iterator[list[Row]]:
        """`page_rows` dicts at a time, once."""
        for size in self._sizes:
            yield [dict(zip(self._columns, row, strict=True)) for row in marshal.loads(self._spool.read(size))]

    def close(self) -> None:
        self._spool.close()
