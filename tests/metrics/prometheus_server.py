"""A Prometheus of Debian's package, scraping one address every second, and the expressions that are shipped."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

PACKAGING = Path(__file__).parents[2] / "packaging"
_RULES = PACKAGING / "prometheus" / "trafficmon.rules.yml"
_DASHBOARD = PACKAGING / "grafana" / "trafficmon.json"


def dashboard_expressions() -> list[str]:
    """Those of the dashboard, with Grafana's variables filled in."""
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    found = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    return [each.replace("$__rate_interval", "1m").replace("$instance", ".*") for each in found]


class Prometheus:
    """Runs between `with` and its end; `prefix` runs it elsewhere ("ip netns exec NAME")."""

    def __init__(self, home: Path, target: str, prefix: Sequence[str] = ()) -> None:
        if not shutil.which("prometheus"):
            pytest.skip("needs Prometheus; run: apt-get install prometheus")
        self._home, self._prefix = home, list(prefix)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self._port = sock.getsockname()[1]
        shutil.copy(_RULES, home / _RULES.name)
        text = (PACKAGING / "prometheus" / "prometheus.yml").read_text().replace("127.0.0.1:9177", target)
        (home / "prometheus.yml").write_text(f"global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n{text}")

    def __enter__(self) -> Prometheus:
        self._log = (self._home / "log").open("wb")
        self._process = subprocess.Popen(
            [
                *self._prefix,
                "prometheus",
                f"--config.file={self._home}/prometheus.yml",
                f"--storage.tsdb.path={self._home}/data",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ],
            stdout=self._log,
            stderr=self._log,
        )
        try:
            self.wait_for("up == 1 and scrape_samples_scraped > 0")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its HTTP interface. Fails with what it says."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        if self._prefix:
            answer = json.loads(subprocess.check_output([*self._prefix, "curl", "-s", url], timeout=20))
        else:
            try:
                with urllib.request.urlopen(url, timeout=20) as reply:
                    answer = json.load(reply)
            except urllib.error.HTTPError as error:
                answer = json.load(error)
        assert answer["status"] == "success", f"{parameters}: {answer['error']}"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The vector that an expression gives now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def value(self, expression: str) -> float:
        """The one number that an expression gives now."""
        (found,) = self.query(expression)
        return float(found["value"][1])

    def wait_for(self, expression: str, seconds: float = 40.0) -> None:
        """Until an expression gives something."""
        until = time.monotonic() + seconds
        while True:
            try:
                if self.query(expression):
                    return
            except (OSError, subprocess.CalledProcessError, ValueError):
                pass
            assert self._process.poll() is None, (self._home / "log").read_text()[-2000:]
            assert time.monotonic() < until, f"never came to be: {expression}"
            time.sleep(0.3)

    def check_shipped(self, *, may_be_empty: Sequence[str] = ()) -> None:
        """Every expression of the dashboard has an answer; every alert is evaluated; all metrics named are there.

        `may_be_empty`: beginnings of metric names that this daemon has no samples of.
        """
        self.wait_for("count_over_time(trafficmon_packets_total[1m]) > 2")
        for expression in dashboard_expressions():
            found = self.query(expression)
            assert found or any(name in expression for name in may_be_empty), f"no answer: {expression}"
        known = set(self.ask("label/__name__/values"))
        for group in self.ask("rules")["groups"]:
            assert group["rules"], "the rules were not loaded"
            for rule in group["rules"]:
                assert (rule["health"], rule.get("lastError")) == ("ok", None), rule
        named = set(re.findall(r"trafficmon_[a-z_]+", " ".join([*dashboard_expressions(), *_alert_expressions()])))
        assert {name for name in named - known if not name.startswith(tuple(may_be_empty))} == set()

    def firing(self) -> set[str]:
        """The alerts that fire or wait to."""
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"]}


def _alert_expressions() -> Iterator[str]:
    for line in _RULES.read_text().splitlines():
        if "trafficmon_" in line:
            yield line
