"""A client for ClickHouse's HTTP interface: inserts and queries. It blocks; for threads and commands."""

import http.client
import json
from typing import Any
from urllib.parse import quote, urlencode

from trafficmond.config.target import Target

Settings = dict[str, str | int]

_ERROR_CHARACTERS = 300


class ServerError(OSError):
    pass


class Server:
    """A server, with one connection that stays open between requests. For one thread at a time."""

    def __init__(self, target: Target, password: str = "", most_bytes: int = 1 << 20, timeout_s: float = 30.0) -> None:
        """`most_bytes`: of a reply; an endless one of what is no ClickHouse must not fill the memory."""
        self._target = target
        self._password = password or target.password
        self._most_bytes = most_bytes
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def insert(self, sql: str, body: bytes, settings: Settings) -> None:
        """Runs `INSERT ... FORMAT ...` with its data. Raises OSError; the rows may be stored nevertheless."""
        self._post({"query": sql, **settings}, body)

    def ask(self, sql: str) -> list[list[Any]]:
        """The rows of a SELECT. Raises OSError."""
        reply = self._post({"output_format_json_quote_64bit_integers": 0}, f"{sql}\nFORMAT JSONCompact".encode())
        try:
            rows: list[list[Any]] = list(json.loads(reply)["data"])
        except (ValueError, KeyError, TypeError, RecursionError):
            # After the beginning of a reply, the server can report an error only in its text.
            raise ServerError(0, self._complaint(reply)) from None
        return rows

    def _post(self, parameters: Settings, body: bytes) -> bytes:
        target = self._target
        headers = {"X-ClickHouse-User": target.user}
        if self._password:
            headers["X-ClickHouse-Key"] = self._password
        path = "/?" + urlencode({"database": target.database, **parameters}, quote_via=quote)
        if self._connection is None:
            kind = http.client.HTTPSConnection if target.scheme.endswith("https") else http.client.HTTPConnection
            self._connection = kind(target.host, target.port, timeout=self._timeout_s)
        try:
            self._connection.request("POST", path, body, headers)
            response = self._connection.getresponse()
            reply = response.read(self._most_bytes)
            if response.length or response.read(1):
                raise http.client.HTTPException("its reply is too long, or was cut off")
        except (OSError, http.client.HTTPException) as error:
            self.close()
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise OSError(getattr(error, "errno", None) or 0, f"{target}: {reason}") from error
        if response.status != http.client.OK:
            raise ServerError(response.status, self._complaint(reply))
        return reply

    def _complaint(self, reply: bytes) -> str:
        text = " ".join(reply.decode("utf-8", "replace").split())[-_ERROR_CHARACTERS:]
        return f"{self._target}: {text or 'an empty answer'}"


def literal(text: str) -> str:
    """`text` quoted for ClickHouse's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
