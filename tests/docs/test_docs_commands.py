"""Every command of README.md and docs/ is run, in the order of its page, on a host with a running daemon."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from docs_pages import PAGES, ROOT, Command, File, steps
from docs_scene import scene

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]

ENDLESS = re.compile(r"^(?:sudo )?trafficctl watch(?!.*--count)")  # until interrupted


@dataclass(frozen=True)
class Elsewhere:
    """Commands that no test here can run, why, and where they are run instead (a path of the tree; "" nowhere).

    `pattern` is searched in "page: command".
    """

    pattern: str
    reason: str
    where: str


ELSEWHERE = (
    Elsewhere(r"systemctl|systemd-analyze", "needs systemd as the first process", "tests/system/administrator.py"),
    Elsewhere(r": journalctl", "needs a journal", "tests/system/administrator.py"),
    Elsewhere(r": (sudo )?apt(-get)? ", "installs packages", "tests/system/administrator.py"),
    Elsewhere(r": make apt-repo|sources\.list\.d/trafficmon", "builds the package", "tests/system/run"),
    Elsewhere(r"make (demo|test|bench|run)\b", "builds, and makes a lab or runs all tests itself", "Makefile"),
    Elsewhere(r": (sudo )?podman", "builds an image", "tests/system/container"),
    Elsewhere(r": alias ", "is for an interactive shell", ""),
    Elsewhere(r": (varlinkctl|datasette)", "is not in Debian 12", ""),
    Elsewhere(r"usermod -aG .*\$USER", "changes the reader's own account", "tests/system/administrator.py"),
    Elsewhere(r"clickhouse://", "needs a ClickHouse server", "tests/export/test_export_clickhouse.py"),
    Elsewhere(
        r"9177/metrics|/usr/share/doc/trafficmon", "needs the installed service", "tests/metrics/test_metrics_http.py"
    ),
    Elsewhere(r"metrics.md: .*node-exporter", "needs node_exporter's folder", "tests/metrics/test_metrics_text.py"),
    Elsewhere(r"logs.md: jq", "needs a log that was set up before", "tests/sinks/test_sinks_files.py"),
    Elsewhere(r": (sudo )?trafficmond -i ", "is a second daemon", "tests/lab/test_lab_original.py"),
    Elsewhere(r"export.md: (nfcapd|nfdump)", "needs nfdump", "tests/export/test_export_readers.py"),
    Elsewhere(r"clickhouse-client", "needs a ClickHouse server", "tests/export/test_export_clickhouse.py"),
    Elsewhere(
        r": sudo trafficctl notify", "needs the service and its targets", "tests/notifier/test_notifier_service.py"
    ),
    Elsewhere(r"operations.md: .*/opt/trafficmon", "is installed by pip", "tests/pip/test_pip_wheel.py"),
    Elsewhere(r"rules.md: (sudo )?trafficmon-fetch", "needs the internet", "tests/feeds/test_feeds_fetch.py"),
    Elsewhere(r"xdp-(filter|loader)", "is on an interface of the reader's", "tests/lab/test_lab_share.py"),
    Elsewhere(r"sudoedit", "is for a person", ""),
    Elsewhere(r"fail2ban-client", "needs fail2ban", ""),
    Elsewhere(r"cscli decisions", "needs CrowdSec", "tests/trafficctl/test_trafficctl_banlines.py"),
    Elsewhere(r"analyze.md: ", "shows the usage", "tests/analyze/test_analyze_cli.py"),
)


TOOLS = ("jq", "nft", "sqlite3", "groupadd", "useradd")  # that the pages use, or the scene


@pytest.fixture(autouse=True)
def tools() -> None:
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"the pages use {', '.join(missing)}; install: apt-get install jq nftables sqlite3 passwd")


def elsewhere(page: Path, command: str) -> Elsewhere | None:
    """Why `command` is not run here; None if it is."""
    return next((each for each in ELSEWHERE if re.search(each.pattern, f"{page.name}: {command}")), None)


def runnable(page: Path) -> list[Command | File]:
    """The page's steps but for what is run elsewhere."""
    return [step for step in steps(page) if isinstance(step, File) or not elsewhere(page, step.text)]


WITH_COMMANDS = [page for page in PAGES if any(isinstance(step, Command) for step in runnable(page))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_do_what_the_page_says(page: Path) -> None:
    wrong: list[str] = []
    with scene() as host:
        for step in runnable(page):
            if isinstance(step, File):
                host.write(step.path, step.text)
                done, expected = host.run("trafficctl reload"), 0
                what = f"line {step.line}: {step.path}"
            else:
                endless = ENDLESS.match(step.text)
                done = host.run(f"timeout -s INT 2 {step.text}" if endless else step.text)
                expected = 124 if endless else step.code
                what = f"line {step.line}: {step.text}"
            if done.returncode != expected:
                wrong.append(f"{what}: exit {done.returncode}, not {expected}\n{done.stdout}")
    assert not wrong, "\n".join(wrong)


def test_what_is_run_elsewhere_is_there() -> None:
    for each in ELSEWHERE:
        assert not each.where or (ROOT / each.where).exists(), f"{each.where} does not exist: {each.reason}"
