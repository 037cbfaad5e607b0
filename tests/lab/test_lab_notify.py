"""A real scan, daemon, trafficmon-notify and server: how long until somebody knows, and what the daemon pays."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import tcp

sys.path.append(str(Path(__file__).parents[1] / "notifier"))

from notifier_targets import HttpTarget

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

_SYN = 2
SETTINGS = """
control_socket = "{socket}"
min_severity = "low"
[[target]]
name = "hook"
command = ["{python}", "-c", "import sys, urllib.request as u; u.urlopen(u.Request('http://127.0.0.1:{port}/', sys.stdin.buffer.read()))"]
"""  # noqa: E501


def memory_kib(pid: int) -> int:
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(status["RssAnon"].split()[0])


def test_somebody_knows_within_two_seconds_and_the_daemon_pays_nothing(tmp_path: Path) -> None:
    with Lab() as lab, Daemon(lab) as daemon, HttpTarget() as http:
        link = lab.links[0]
        found: list[float] = []

        def watch() -> None:
            with daemon.client() as client:
                client.patient()
                for reply in client.stream("Watch", topics=["threats"]):
                    found.append(time.time())
                    if reply["records"]:
                        return

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        time.sleep(1)
        before = memory_kib(daemon.pid)
        (tmp_path / "notify.toml").write_text(SETTINGS.format(socket=daemon.socket, python=PYTHON, port=http.port))
        with (tmp_path / "log").open("wb") as log:
            notify = subprocess.Popen(
                [PYTHON, "-m", "trafficmond.notifier", "-c", str(tmp_path / "notify.toml"), "-d", str(tmp_path)],
                env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            daemon.wait_status(lambda status: status["control"]["clients"] >= 3, "the notifier at the socket")
            time.sleep(2)
            grown = memory_kib(daemon.pid) - before
            with Sender(lab.outside, link.outside) as sender:
                ports = range(1, 129)
                sender.send([tcp("198.51.100.66", link.host_ip, 40000 + port, port, _SYN) for port in ports])
            daemon.wait(lambda: http.got, "a message", 20)
        finally:
            notify.terminate()
            notify.wait(20)
        watching.join(5)
        took = http.times[0] - found[0]
        print(f"the first message {took:.2f} s after the threat; the daemon grew by {grown} KiB")
        assert http.got[0]["threats"][0]["src_ip"] == "198.51.100.66"
        assert took < 2
        assert grown < 1024
