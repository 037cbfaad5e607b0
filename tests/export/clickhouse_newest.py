"""As much of ClickHouse's HTTP interface as trafficmon speaks, before chdb: the engine of the newest ClickHouse,
of which Debian has no server. Run by a Python that has chdb: PYTHON clickhouse_newest.py PORT FOLDER
"""

from __future__ import annotations

import http.server
import sys
import tempfile
import threading
import urllib.parse

import chdb

OWN = {"query", "database", "query_id", "user", "password"}
ENGINE = threading.Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            with ENGINE:
                code, said = 200, run(asked, body)
        except Exception as error:  # noqa: BLE001 - whatever the engine says is the answer
            code, said = 500, str(error).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


def run(asked: dict[str, str], body: bytes) -> bytes:
    """The answer to a request, in the form it names."""
    connection.query(f"USE {asked.get('database', 'default')}")
    for name, value in asked.items():
        if name not in OWN:
            connection.query(f"SET {name} = '{value}'")
    sql = asked.get("query", "")
    if sql.upper().startswith("INSERT"):
        head, _, form = sql.rpartition(" FORMAT ")
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            connection.query(f"{head} FROM INFILE '{file.name}' FORMAT {form}")
        return b""
    text, _, form = (sql + body.decode()).rstrip().rpartition("FORMAT ")
    if not text or " " in form:
        text, form = sql + body.decode(), "TabSeparated"
    return bytes(connection.query(text, form).bytes())


connection = chdb.connect(sys.argv[2])
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
