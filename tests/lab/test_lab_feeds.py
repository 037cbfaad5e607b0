"""A list from a server, live: fetched, in force, counted; and its URL nowhere to be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.daemon import PYTHON, ROOT
from tmlab.packets import udp

sys.path.append(str(Path(__file__).parents[1] / "feeds"))

from feed_server import FeedServer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LIST = """
feeds_dir = "{{home}}/feeds"
[[list]]
label = "far"
url = "{url}"
url_allow = ["http", "private"]
[[log]]
format = "jsonl"
path = "{{home}}/traffic.jsonl"
"""
SECRETS = ("passw0rd", "T0KENT0KEN")


def fetch(daemon: Daemon) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-m", "trafficmond.feeds", "-c", str(daemon.config), "--all"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )


def row(daemon: Daemon) -> dict[str, Any]:
    (found,) = json.loads(daemon.control("-o", "json", "lists", check=False).stdout)
    return dict(found)


def test_a_fetched_list_is_in_force_and_its_url_is_nowhere_to_be_read() -> None:
    with Lab() as lab, FeedServer(b"203.0.113.7\n") as server, Daemon(lab) as daemon:
        (daemon.home / "feeds").mkdir()
        url = server.url("/list?key=T0KENT0KEN").replace("http://", "http://me:passw0rd@")
        daemon.configure(LIST.format(url=url))
        said = daemon.control("reload").stdout
        generation = daemon.status()["config"]["generation"]
        daemon.control("reload")
        assert daemon.status()["config"]["generation"] == generation  # nothing is different
        daemon.wait_status(lambda status: "has not been fetched yet" in str(status["warnings"]), "a word of that")
        assert row(daemon)["prefixes"] == 0

        done = fetch(daemon)
        assert done.returncode == 0, done.stderr
        daemon.wait(lambda: row(daemon)["prefixes"] == 1, "the list in force")
        with Sender(lab.outside, lab.links[0].outside) as sender:
            sender.send([udp("203.0.113.7", lab.links[0].host_ip)] * 5)
        daemon.wait(lambda: row(daemon)["packets"] == 5, "five packets on it")

        server.body = b"203.0.113.0/24\n198.51.100.0/24\n"
        said += fetch(daemon).stderr
        daemon.wait(lambda: row(daemon)["prefixes"] == 2, "what it holds now")
        server.shutdown()
        server.server_close()
        broken = fetch(daemon)
        assert broken.returncode == 1
        assert "cannot connect" in row(daemon)["state"]
        daemon.configure(LIST.format(url=url.replace("T0KENT0KEN", "T0KENT0KEN2")))
        daemon.control("reload", check=False)

        for command in ("status", "rules", "audit", "metrics"):
            said += daemon.control("-o", "json", command).stdout
        assert "list" in said
        said += (
            done.stderr + broken.stderr + str(row(daemon)) + daemon.said() + (daemon.home / "traffic.jsonl").read_text()
        )
        said += "".join(str(row) for row in daemon.sql("SELECT * FROM audit"))
        assert not [secret for secret in SECRETS if secret in said]
