"""What pip installs, in an environment of its own: whole, tells what the system needs, filters. `make test-pip`."""

from __future__ import annotations

import ast
import json
import os
import subprocess
from pathlib import Path

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.daemon import PYTHON
from tmlab.packets import udp

ROOT = Path(__file__).parents[2]

installed = pytest.mark.skipif("TRAFFICMON_PIP" not in os.environ, reason="needs an installed wheel: make test-pip")
BIN = Path(PYTHON).parent


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / program, *arguments], capture_output=True, text=True, timeout=120, cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin"},
    )  # fmt: skip


def test_what_make_builds_is_what_the_wheel_carries() -> None:
    objects = next(line for line in (ROOT / "setup.py").read_text().splitlines() if line.startswith("OBJECTS = "))
    carried = {f"trafficmon{name}.bpf.o" for name in ast.literal_eval(objects.partition(" = ")[2])}
    assert carried == {each.name for each in (ROOT / "build").glob("*.bpf.o")}


@installed
def test_every_program_is_there() -> None:
    for program in ("trafficmond", "trafficctl", "trafficmon-notify", "trafficmon-fetch", "trafficmon-share"):
        assert run(program, "--version").stdout.startswith(f"{program} ")


@installed
def test_it_reads_captures() -> None:
    captures = sorted((ROOT.parent / "shared/data/pcaps/robust").glob("*.pcap"))
    if not captures:
        pytest.skip("no captures at ../shared/data/pcaps/robust")
    done = run("trafficctl", "-o", "json", "analyze", str(captures[0]))
    assert json.loads(done.stdout)["summary"]["total_packets"] > 0, done.stderr


@installed
def test_doctor_says_what_the_system_lacks() -> None:
    found = json.loads(run("trafficctl", "-o", "json", "doctor").stdout)
    by = {(each["subject"], each["state"]): each for each in found}
    assert "/site-packages/trafficmond/compiled/trafficmon-units.bpf.o loads" in by["loader libbpf", "ok"]["what"]
    assert "pip install systemd-python" in by["journal", "warn"]["advice"]
    units = BIN.parent / "share/trafficmon/systemd"
    assert (units / "trafficmond.service").exists()
    assert (units / "sysusers.d" / "trafficmon.conf").exists()


@installed
def test_a_start_that_fails_says_where_to_look(tmp_path: Path) -> None:
    config, taken = tmp_path / "trafficmond.toml", tmp_path / "taken"
    taken.touch()
    config.write_text(f'control_socket = "{taken}"\n')
    done = run("trafficmond", "-c", str(config))
    assert done.returncode == 1
    assert "is not a socket" in done.stderr
    assert "to see what this system still needs, run: sudo trafficctl doctor" in done.stderr


@installed
@pytest.mark.root
def test_it_watches_and_filters() -> None:
    with Lab() as lab, Daemon(lab, environment={"PYTHONPATH": ""}) as daemon:
        maps = Path(f"/proc/{daemon.pid}/maps").read_text()
        assert str(BIN.parent) in maps  # numpy's, of that environment
        daemon.control("add-cidr", "203.0.113.0/24")
        with Listener(lab.host, lab.links[0].host_ip) as listener, Sender(lab.outside, lab.links[0].outside) as sender:
            sender.send([udp("203.0.113.7", lab.links[0].host_ip), udp("198.51.100.7", lab.links[0].host_ip)])
            heard = daemon.wait(listener.heard, "the packet that is not to be dropped")
            assert set(heard + listener.heard()) == {"198.51.100.7"}
        daemon.wait(lambda: daemon.sql("SELECT count(*) FROM threats") is not None, "its database")
