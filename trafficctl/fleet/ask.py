"""The options for a fleet, and the rows of its ClickHouse server."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from trafficctl import values
from trafficctl.exits import UsageError

if TYPE_CHECKING:
    from trafficmond.config.target import Target
    from trafficmond.store.query import Question

SENSOR = "sensor"  # the column that flows.db of one host does not have


def arguments(parser: ArgumentParser) -> None:
    text = "ask clickhouse://USER@HOST:PORT/DATABASE instead"
    parser.add_argument("--from", dest="fleet", metavar="URL", type=values.fleet, help=text)
    parser.add_argument("--sensor", metavar="NAME", type=values.named, help="with --from: only this host of the fleet")


def wanted(args: Namespace) -> Fleet | None:
    """The fleet that --from names, if any. Raises UsageError for --sensor without --from."""
    if args.sensor is not None and args.fleet is None:
        raise UsageError("--sensor works only for a fleet", "add --from clickhouse://HOST/DATABASE, or leave it out")
    return Fleet(args.fleet) if args.fleet else None


class Fleet:
    """The ClickHouse server of a fleet; the password is in $CLICKHOUSE_PASSWORD."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def rows(self, asked: Question) -> Iterator[dict[str, Any]]:
        """The rows for a question. Raises StoreError if the server cannot be reached or refuses."""
        from trafficmond.errors import StoreError
        from trafficmond.export.clickhouse_http import Server

        server = Server(self._target, os.environ.get("CLICKHOUSE_PASSWORD", ""), 1 << 30)
        try:
            found = server.ask(asked.sql)
        except OSError as error:
            hint = "check host, port, database, user and password; flows.sql makes the tables (see export.md)"
            raise StoreError(str(error.strerror), hint=hint) from error
        finally:
            server.close()
        for row in found:
            try:
                named = dict(zip(asked.columns, row, strict=True))
            except (TypeError, ValueError):
                raise StoreError("the server's answer does not have the columns that were asked for") from None
            yield named
