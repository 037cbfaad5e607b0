"""What is shipped for Prometheus and Grafana, in a real Prometheus, scraping what the daemon really says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from metrics_status import COUNTERS, STATUS
from prometheus_server import PACKAGING, Prometheus, dashboard_expressions

from trafficmond.metrics.families import families
from trafficmond.metrics.http import MetricsServer
from trafficmond.metrics.text import openmetrics

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, Any]]]:
    """Where metrics are served, and their status, to be changed meanwhile."""
    status = json.loads(json.dumps(STATUS))
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    def render() -> str:
        return openmetrics(families(status, COUNTERS))

    async def serve() -> None:
        server = MetricsServer()
        assert await server.listen(address, render) == ""
        await stop.wait()
        server.close()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    yield address, status
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def test_every_expression_has_an_answer(served: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    address, status = served
    with Prometheus(tmp_path, address) as server:
        server.check_shipped()
        assert server.value('sum(trafficmon_packets_total{verdict="drop"})') == 100
        assert server.value("trafficmon_start_time_seconds") == STATUS["started_at"]
        kinds = {name: each[0]["type"] for name, each in server.ask("metadata").items()}
        assert (kinds["trafficmon_packets"], kinds["trafficmon_flows"]) == ("counter", "gauge"), (
            "scraped as OpenMetrics"
        )
        assert {"TrafficmonThreat", "TrafficmonInterfaceNotWatched", "TrafficmonExportFailing"} <= server.firing()
        assert "TrafficmonUnattributed" not in server.firing()
        status["accounting"]["unattributed"]["packets"] += 1_000
        status["store"]["lost_rows"] += 50
        status["store"]["state"] = "the disk is full"
        status["threats"]["high"] = 0
        until = time.monotonic() + 30
        while not {"TrafficmonUnattributed", "TrafficmonLosing", "TrafficmonStoreFailing"} <= server.firing():
            assert time.monotonic() < until, server.firing()
            time.sleep(0.5)
        assert "TrafficmonThreat" not in server.firing()


def test_promtool_accepts_what_is_shipped() -> None:
    if not shutil.which("promtool"):
        pytest.skip("needs promtool; run: apt-get install prometheus")
    done = subprocess.run(
        ["promtool", "check", "config", "prometheus.yml"], cwd=PACKAGING / "prometheus", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_dashboard_is_whole() -> None:
    board = json.loads((PACKAGING / "grafana" / "trafficmon.json").read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies over another"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    variables = {each["name"] for each in board["templating"]["list"]}
    assert variables == {"datasource", "instance"}
    assert all(".*" in expression for expression in dashboard_expressions()), "each can be asked of one host"
    assert set(re.findall(r"\$\{?(\w+)", json.dumps(board))) <= {*variables, "__rate_interval", "__all"}
    for panel in panels:
        if panel["type"] == "row":
            continue
        targets = panel["targets"]
        assert len({each["refId"] for each in targets}) == len(targets) > 0
        sources = [panel["datasource"], *(each["datasource"] for each in targets)]
        assert sources == [{"type": "prometheus", "uid": "${datasource}"}] * len(sources), panel["title"]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        told = {_unit_of(each["expr"]) for each in targets}
        assert told == {unit}, f"{panel['title']} has the unit {unit} and shows {told}"


def _unit_of(expression: str) -> str:
    """What a value is in, by the names of metrics and the conventions of Grafana."""
    if "/" in expression or "cpu_seconds" in expression:
        return "percentunit"
    if "_bytes" in expression:
        return "bps" if expression.startswith("8 *") else "bytes"
    return "pps" if re.search(r"rate\(trafficmon_(decided_)?packets_total", expression) else "short"


@pytest.mark.root
def test_the_real_daemon_scraped(tmp_path: Path) -> None:
    from tmlab import Daemon, Lab, Sender
    from tmlab.packets import udp

    settings = '[flows]\ninterval = "200ms"\n[metrics]\nlisten = "127.0.0.1:9177"\n'
    rules = {"10.toml": '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n'}
    with Lab() as lab, Daemon(lab, settings, rules=rules) as daemon:
        link = lab.links[0]
        with Prometheus(tmp_path, "127.0.0.1:9177", ["ip", "netns", "exec", lab.host.name]) as server:
            before = server.value("sum(trafficmon_packets_total)")
            Sender(lab.outside, link.outside).send([udp("203.0.113.7", link.host_ip)] * 300)
            server.wait_for('sum(trafficmon_packets_total{verdict="drop", direction="ingress"}) >= 300')
            server.check_shipped(may_be_empty=["trafficmon_export_", "trafficmon_malformed_packets_total"])
            assert server.value("sum(trafficmon_packets_total)") >= before + 300
            assert server.value('trafficmon_decided_packets_total{action="drop", reason="rule"}') == 300
            with daemon.client() as client:
                seen = client.call("Status")["accounting"]["dropped"]["packets"]
            assert server.value('sum(trafficmon_packets_total{verdict="drop"})') == seen == 300
