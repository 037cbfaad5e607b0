#!/usr/bin/env bash
# Apprise 1.2.0 (Debian 12's; PyPI) with requests 2.32.3: a webhook behind a 301 is called without the message, and
# `apprise` reports it delivered.
#
# A webhook moves (to https, to another host, behind a slash), and its old address answers 301. One would expect the
# message at the new address, or a failure. Apprise posts, requests follows as browsers do, with a GET and no body, and
# whatever page the new address shows for a GET is a 200: "Sent JSON notification", exit status 0. Only 307 and 308 keep
# the message. Nobody is alarmed by the alarms that no longer come.
#
# Seen: 301: POST /old with the message, GET /new with 0 bytes, exit status 0; 308: POST /new with the message.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install apprise==1.2.0 requests==2.32.3 2>/dev/null

"$folder/venv/bin/python" - "$folder/venv/bin/apprise" <<'PYTHON'
import http.server
import subprocess
import sys
import threading

seen: list[tuple[str, str, bool]] = []


class Hook(http.server.BaseHTTPRequestHandler):
    answer = 301

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen.append((self.command, self.path, b"the house burns" in body))
        moved = self.path == "/old"
        self.send_response(Hook.answer if moved else 200)
        if moved:
            self.send_header("Location", "/new")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
threading.Thread(target=server.serve_forever, daemon=True).start()
for Hook.answer, then in ((301, ("GET", "/new", False)), (308, ("POST", "/new", True))):
    seen.clear()
    url = f"json://127.0.0.1:{server.server_port}/old"
    status = subprocess.run([sys.argv[1], "-t", "fire", "-b", "the house burns", url]).returncode
    print(f"{Hook.answer}: (method, path, with the message) {seen}, exit status {status}")
    assert (seen, status) == ([("POST", "/old", True), then], 0), "the behaviour changed"
PYTHON
