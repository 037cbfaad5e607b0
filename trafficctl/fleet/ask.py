"""The options for a fleet, and the rows of its ClickHouse server."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from trafficctl import values
from trafficctl.exits import UsageError

if TYPE_CHECKING:
    from trafficmond.config.target import Target
    from trafficmond.store.query import Question

SENSOR = "sensor"  # the column that flows.db of one host does not have


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="fleet",
        metavar="URL",
        type=values.fleet,
        help="ask clickhouse://USER@HOST:PORT/DATABASE instead",
    )
    parser.add_argument("--sensor", metavar="NAME", type=values.named, help="with --from: only this host of the fleet")


def wanted(args: Namespace) -> Target | None:
    """The fleet's server, if --from names one. Raises UsageError for --sensor without --from."""
    target: Target | None = args.fleet
    if args.sensor is not None and target is None:
        raise UsageError("--sensor works only for a fleet", "add --from clickhouse://HOST/DATABASE, or leave it out")
    return target


def rows(target: Target, asked: Question) -> Iterator[dict[str, Any]]:
    """The rows for a question; the password is in $CLICKHOUSE_PASSWORD. Raises StoreError if the server cannot be
    reached or refuses."""
    from trafficmond.errors import StoreError
    from trafficmond.export.clickhouse_http import Server, ServerError

    server = Server(target, os.environ.get("CLICKHOUSE_PASSWORD", ""))
    try:
        found: Sequence[Sequence[Any]] = server.ask(asked.sql)
    except ServerError as error:
        raise StoreError(
            str(error.strerror), hint="check database, user and password; flows.sql makes the tables (see export.md)"
        ) from error
    except OSError as error:
        raise StoreError(
            str(error.strerror), hint="check that ClickHouse runs there and accepts connections from here"
        ) from error
    finally:
        server.close()
    for row in found:
        yield dict(zip(asked.columns, row, strict=True))
