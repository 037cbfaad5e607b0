"""A clickhouse-server of Debian's package with files and ports of its own, and a proxy that loses answers.

TRAFFICMON_CHDB=PYTHON, one that has chdb, puts the newest ClickHouse's engine in its place.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_NEWEST = os.environ.get("TRAFFICMON_CHDB", "")
SCHEMA = Path(__file__).parents[2] / "packaging" / "clickhouse" / "flows.sql"


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in held]
    for sock in held:
        sock.close()
    return ports


class ClickHouseServer:
    """Started with `with`; `kill` and `start` again as often as wanted, on the same files and port."""

    def __init__(self, home: Path) -> None:
        if not (_NEWEST or shutil.which("clickhouse-server")):
            pytest.skip("needs clickhouse-server; run: apt-get install clickhouse-server")
        self.home = home
        self.port, *self._other_ports = free_ports(3)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def schema(self) -> Path:
        """The tables that this server is for."""
        return SCHEMA.with_name("flows-current.sql") if _NEWEST else SCHEMA

    @property
    def url(self) -> str:
        return f"clickhouse://127.0.0.1:{self.port}/trafficmon"

    def __enter__(self) -> ClickHouseServer:
        self.start()
        for statement in statements(self.schema.read_text()):
            self.ask(statement)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        tcp, between = self._other_ports
        home = self.home
        options = {
            "http_port": self.port,
            "tcp_port": tcp,
            "interserver_http_port": between,
            "listen_host": "127.0.0.1",
            "path": f"{home}/data/",
            "tmp_path": f"{home}/tmp/",
            "user_files_path": f"{home}/files/",
            "format_schema_path": f"{home}/schemas/",
            "logger.log": f"{home}/log",
            "logger.errorlog": f"{home}/errors",
        }
        command = ["clickhouse-server", "--config-file=/etc/clickhouse-server/config.xml", "--"]
        command += [f"--{key}={value}" for key, value in options.items()]
        if _NEWEST:
            command = [_NEWEST, str(Path(__file__).with_name("clickhouse_newest.py")), str(self.port), f"{home}/data"]
        with (home / "output").open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=home,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("SELECT 1"):
                    return
            assert self.process.poll() is None, (home / "output").read_text()[-1000:]
            assert time.monotonic() < until, "clickhouse-server does not answer"
            time.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait(20)
            self.process = None

    def ask(self, sql: str, body: bytes | None = None, **parameters: Any) -> list[list[Any]]:
        """The rows of a statement. Fails with what the server says."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        fixed = {"output_format_json_quote_64bit_integers": 0, **parameters}
        query = sql if body is not None or not sql.startswith("SELECT") else f"{sql} FORMAT JSONCompact"
        path = "/?" + urllib.parse.urlencode({**fixed, **({"query": query} if body is not None else {})})
        connection.request("POST", path, query.encode() if body is None else body)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        assert reply.status == 200, text.decode()
        rows: list[list[Any]] = json.loads(text)["data"] if text else []
        return rows

    def counts(self, final: bool = False) -> dict[str, int]:
        """What is in `flows`."""
        names = ("packets", "bytes", "reply_packets", "reply_bytes")
        sums = ", ".join(f"sum({name})" for name in names)
        distinct = "uniqExact(batch, row)"
        sql = f"SELECT count(), {distinct}, {sums} FROM trafficmon.flows{' FINAL' if final else ''}"
        ((rows, keys, *found),) = self.ask(sql)
        return {"rows": rows, "distinct": keys, **dict(zip(names, found, strict=True))}


def statements(text: str) -> list[str]:
    """A file of SQL, taken apart."""
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [each.strip() for each in "\n".join(lines).split(";") if each.strip()]


class LosingProxy:
    """Passes requests on to the server; the answers to inserts are lost as often as `losses` says."""

    def __init__(self, server: ClickHouseServer, losses: int) -> None:
        self._server = server
        self.losses = losses
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"clickhouse://127.0.0.1:{self._listener.getsockname()[1]}/trafficmon"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._listener.accept()
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        try:
            upstream = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:  # the server is down
            client.close()
            return
        inserting = threading.Event()

        def forth() -> None:
            while data := client.recv(65536):
                if b"INSERT" in data:
                    inserting.set()
                upstream.sendall(data)

        def guarded() -> None:
            with contextlib.suppress(OSError):
                forth()

        threading.Thread(target=guarded, daemon=True).start()
        with contextlib.suppress(OSError):
            while data := upstream.recv(65536):
                if inserting.is_set() and self.losses > 0:
                    self.losses -= 1
                    client.shutdown(socket.SHUT_RDWR)
                    break
                client.sendall(data)
        client.close()
        upstream.close()
