"""What can go wrong around a daemon: kills, interfaces that go, strangers' programs, missing rights, bad clients."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tmlab import Daemon, DaemonFailed, Flood, Lab, Listener, Sender
from tmlab.daemon import ROOT
from tmlab.packets import udp

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SETTINGS = """
[flows]
interval = "200ms"
idle_timeout = "1s"
[[log]]
format = "jsonl"
path = "{home}/traffic.jsonl"
"""
PASS = ROOT / "build" / "tests" / "pass.bpf.o"


@pytest.fixture
def prepared(lab: Lab) -> Iterator[Daemon]:
    """A daemon that has not been started."""
    daemon = Daemon(lab, SETTINGS)
    yield daemon
    daemon.remove()


def outcome(daemon: Daemon, timeout: float = 20) -> tuple[int, str]:
    """Exit code and words of a daemon that is expected to give up by itself."""
    process = daemon.launch()
    try:
        return process.wait(timeout), daemon.said()
    except subprocess.TimeoutExpired:
        raise DaemonFailed(f"trafficmond still runs after {timeout:g} s:\n{daemon.said()}") from None


def attached(lab: Lab) -> str | None:
    """Name of the XDP program on the first link's host end."""
    xdp = lab.host.link(lab.links[0].host).get("xdp")
    return str(xdp["prog"]["name"]) if xdp else None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_signal_ends_it_cleanly_with_the_last_packets_stored(lab: Lab, number: signal.Signals) -> None:
    settings = SETTINGS.replace("200ms", "1m").replace('idle_timeout = "1s"', 'idle_timeout = "3m"')
    with Daemon(lab, settings) as daemon:
        with Sender(lab.outside, lab.links[0].outside) as sender:
            sender.send([udp("203.0.113.7", lab.links[0].host_ip)] * 5)
        daemon.send_signal(number)
        assert daemon.stop() == 0
        assert daemon.sql("SELECT sum(packets) FROM flows WHERE src_ip = '203.0.113.7'") == [(5,)]
        assert not daemon.socket.exists()
        assert attached(lab) is None


def test_sighup_reads_the_files_again(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon:
        before = daemon.status()["config"]["generation"]
        daemon.send_signal(signal.SIGHUP)  # nothing is other than before, so nothing is made again
        assert daemon.status()["config"]["generation"] == before
        daemon.configure(SETTINGS + '[store]\nmax_age = "2h"\n')
        change = daemon.wait(lambda: [row for row in daemon.ask("audit") if "max_age" in row["after"]], "its record")[0]
        assert (change["change"], change["user"], change["uid"]) == ("reload", "files changed", 0)
        assert "store.max_age = 7200" in change["after"]


def test_sigusr1_begins_the_logs_anew(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon, Sender(lab.outside, lab.links[0].outside) as sender:
        log = daemon.home / "traffic.jsonl"
        sender.send([udp("203.0.113.7", lab.links[0].host_ip)])
        daemon.wait(lambda: log.exists() and "203.0.113.7" in log.read_text(), "a line")
        log.rename(daemon.home / "moved")
        daemon.send_signal(signal.SIGUSR1)
        daemon.wait(log.exists, "a file of that name")
        sender.send([udp("203.0.113.8", lab.links[0].host_ip)])
        daemon.wait(lambda: "203.0.113.8" in log.read_text(), "the next line")
        assert "203.0.113.8" not in (daemon.home / "moved").read_text()


def test_the_service_manager_is_informed_of_what_happens(lab: Lab, prepared: Daemon) -> None:
    path = prepared.home / "notify"
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(10)
        daemon = Daemon(lab, SETTINGS, environment={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"})
        try:
            daemon.start()

            def hear(what: str) -> None:
                while not any(what in line for line in told):
                    told.extend(manager.recv(4096).decode().splitlines())
                told.clear()

            hear("READY=1")
            hear("WATCHDOG=1")
            daemon.send_signal(signal.SIGHUP)
            hear("RELOADING=1")
            hear("READY=1")
            daemon.send_signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert daemon.stop() == 0
        finally:
            daemon.remove()


def test_a_kill_in_mid_traffic_leaves_a_clean_database_and_the_filter_up(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon, Flood(lab, lab.links[0], "198.18.0.0/20", randomly=True) as flood:
        daemon.control("add-cidr", "203.0.113.0/24", "--save")
        for _ in range(3):
            flood.start()
            daemon.wait(lambda: stored(daemon) > 0, "rows in flows.db")
            before = stored(daemon)
            daemon.kill()
            with (
                Listener(lab.host, lab.links[0].host_ip) as listener,
                Sender(lab.outside, lab.links[0].outside) as sender,
            ):
                sender.send([udp("203.0.113.7", lab.links[0].host_ip)] * 3)
                assert listener.heard()["203.0.113.7"] == 0, "the filter went with the daemon"
            flood.stop()
            with contextlib.closing(sqlite3.connect(daemon.database)) as database:
                assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert stored(daemon) >= before
            daemon.start()
            assert stored(daemon) >= before


def stored(daemon: Daemon) -> int:
    with contextlib.suppress(sqlite3.OperationalError):
        return int(daemon.sql("SELECT count(*) FROM flows")[0][0])
    return 0


def test_a_restart_loses_no_packet(lab: Lab) -> None:
    """The programs stay pinned over a kill or a stop: every frame that arrived meanwhile is in the totals after it."""
    link = lab.links[0]

    def arrived() -> int:
        return int(lab.host.link(link.host)["stats64"]["rx"]["packets"])

    def uncounted() -> int:
        """Frames that arrived and are not in the totals, at a moment when no more arrive."""
        for _ in range(100):
            before = arrived()
            seen = int(daemon.status()["accounting"]["seen"]["packets"])
            if arrived() == before:
                return before - seen
        raise AssertionError(f"{link.host} is never quiet")

    daemon = Daemon(lab, 'on_stop = "keep"\negress = false\n' + SETTINGS)
    with daemon, Flood(lab, link, "198.18.0.0/20") as flood:
        early = uncounted()  # before there was a program
        flood.start()
        for turn in range(5):
            time.sleep(0.3)
            daemon.kill() if turn % 2 else daemon.stop()
            time.sleep(0.2)
            daemon.start()
        sent = flood.stop()
        daemon.wait(lambda: arrived() >= sent, f"all {sent} packets to arrive")
        assert uncounted() == early


def test_an_unknown_interface_is_said_and_waited_for(lab: Lab) -> None:
    daemon = Daemon(lab, SETTINGS, interfaces=["tmlab0", "tmlab7"])
    with daemon:
        assert "tmlab7" in str(daemon.status()["warnings"]) or "tmlab7" in daemon.said()
        assert [each["name"] for each in daemon.status()["interfaces"] if each["mode"] in ("native", "generic")] == [
            "tmlab0"
        ]
        lab.host.ip("link add tmlab7 type veth peer name tmlabp7", "link set tmlab7 up", "link set tmlabp7 up")
        daemon.wait_status(
            lambda s: [e for e in s["interfaces"] if e["name"] == "tmlab7" and e["mode"] in ("native", "generic")],
            "tmlab7 to be attached when it appears",
        )


def test_an_interface_named_on_the_command_line_must_exist(lab: Lab, prepared: Daemon) -> None:
    daemon = Daemon(lab, SETTINGS, arguments=["-c", str(prepared.config), "-i", "nosuch0"])
    try:
        code, said = outcome(daemon)
        assert code != 0
        assert "nosuch0" in said
        assert "Traceback" not in said
    finally:
        daemon.remove()


def test_an_interface_that_vanishes_is_released_and_taken_up_again(lab: Lab) -> None:
    link = lab.links[0]
    with Daemon(lab, SETTINGS) as daemon:
        with Sender(lab.outside, link.outside) as sender:
            sender.send([udp("203.0.113.7", link.host_ip)] * 5)
        daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= 5, "5 packets")
        lab.host.ip(f"link delete {link.host}")
        gone = daemon.wait_status(
            lambda s: not [e for e in s["interfaces"] if e["mode"] in ("native", "generic")], "the interface let go"
        )
        assert gone["accounting"]["seen"]["packets"] >= 5, "what was counted stays counted"
        lab.connect(link)
        daemon.wait_status(
            lambda s: [e for e in s["interfaces"] if e["mode"] in ("native", "generic")], "the interface taken up again"
        )
        with Sender(lab.outside, link.outside) as sender:
            sender.send([udp("203.0.113.7", link.host_ip)] * 5)
        daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= 10, "5 packets more")


def test_a_strangers_program_is_respected(lab: Lab, prepared: Daemon) -> None:
    interface = lab.links[0].host
    lab.host.run("ip", "link", "set", interface, "xdpdrv", "obj", PASS, "sec", "xdp")
    code, said = outcome(prepared)
    assert code != 0
    assert interface in said
    assert "Traceback" not in said
    assert attached(lab) == "pass"
    # Once the stranger has gone, nothing is left that would stand in the way.
    lab.host.run("ip", "link", "set", interface, "xdpdrv", "off")
    prepared.start()
    assert attached(lab) != "pass"


def test_without_bpffs_it_says_what_to_mount(lab: Lab, prepared: Daemon) -> None:
    daemon = Daemon(
        lab,
        SETTINGS,
        arguments=["-c", str(prepared.config)],
        prefix=["unshare", "--mount", "sh", "-c", 'umount -l /sys/fs/bpf && exec "$@"', "sh"],
    )
    try:
        code, said = outcome(daemon)
        assert code != 0
        assert "/sys/fs/bpf" in said
        assert "mount" in said
        assert "Traceback" not in said
    finally:
        daemon.remove()


def test_without_permission_it_says_which_is_missing(lab: Lab, prepared: Daemon) -> None:
    prepared.home.chmod(0o777)
    daemon = Daemon(
        lab,
        SETTINGS,
        arguments=["-c", str(prepared.config)],
        prefix=["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    )
    try:
        code, said = outcome(daemon)
        assert code != 0
        assert "permi" in said.lower()
        assert "Traceback" not in said
    finally:
        daemon.remove()


def test_a_socket_in_use_is_not_taken(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as first:
        second = Daemon(lab, SETTINGS, arguments=["-c", str(first.config)])
        try:
            code, said = outcome(second)
            assert code != 0
            assert str(first.socket) in said
            assert "Traceback" not in said
        finally:
            second.remove()
        assert first.status()["pid"] == first.pid
        assert attached(lab)


def test_a_stale_socket_is_no_obstacle(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon:
        daemon.kill()
        assert daemon.socket.exists()
        daemon.start()
        assert daemon.status()["pid"] == daemon.pid


def test_bad_clients_harm_nobody(lab: Lab) -> None:
    with Daemon(lab, SETTINGS) as daemon:
        clients = []
        for _ in range(40):
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(5)
            client.connect(str(daemon.socket))
            clients.append(client)
        garbage = [
            b"\0" * 1000,
            b"GET / HTTP/1.1\r\n\r\n\0",
            b'{"method": 7}\0',
            b"[" * 100_000 + b"\0",
            os.urandom(5000),
        ]
        for client, data in zip(clients, garbage, strict=False):
            with contextlib.suppress(OSError):
                client.sendall(data)
        with contextlib.suppress(OSError):  # 10 MB without an end
            for _ in range(160):
                clients[10].sendall(b"x" * 65536)
        clients[11].sendall(b'{"method": "io.trafficmon.Status"}\0' * 50)  # never reads its answers
        clients[12].sendall(b'{"method": "io.trafficmon.Watch", "more": true}\0')
        for client in clients[13:20]:
            client.close()
        for _ in range(5):
            started = time.monotonic()
            assert daemon.status()["pid"] == daemon.pid
            assert time.monotonic() - started < 1
        for client in clients:
            client.close()
        assert daemon.status()["pid"] == daemon.pid
        assert "Traceback" not in daemon.said()


def test_mistakes_in_the_settings_are_all_said_at_once(lab: Lab, prepared: Daemon) -> None:
    prepared.configure('[flows]\ninterval = "soon"\nidle_timeot = "30s"\n[policy]\ndefault = "perhaps"\n')
    code, said = outcome(prepared)
    assert code != 0
    for wrong in ("soon", "idle_timeot", "perhaps"):
        assert wrong in said
    assert "Traceback" not in said
    checked = subprocess.run(
        [*lab.host.argv("/usr/bin/python3", "-m", "trafficmond", "-t", "-c", prepared.config)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert checked.returncode != 0
    for wrong in ("soon", "idle_timeot", "perhaps"):
        assert wrong in checked.stdout + checked.stderr


def test_the_emergency_exit_detaches_everything(lab: Lab) -> None:
    with Daemon(lab, 'on_stop = "keep"\n' + SETTINGS) as daemon:
        daemon.stop()
        assert attached(lab), 'on_stop = "keep" keeps the program attached'
        exit_by = ("env", f"PYTHONPATH={ROOT}", "/usr/bin/python3", "-m", "trafficmond", "--detach", "-c")
        other = daemon.home / "other.toml"
        other.write_text(f'pin_dir = "{daemon.pins}-other"\n')
        done = lab.host.run(*exit_by, other)
        assert f"an XDP program is still attached to {lab.links[0].host}" in done.stdout
        assert "nothing is filtered" not in done.stdout
        daemon.config.write_text(daemon.config.read_text() + "[flows\n")  # mistakes do not keep it in the kernel
        done = lab.host.run(*exit_by, daemon.config)
        assert (done.returncode, attached(lab)) == (0, None)
        assert "started again" in done.stdout
        asked = daemon.control("status", check=False)
        assert asked.returncode == 3
        assert "start the daemon: sudo systemctl start trafficmond" in asked.stderr
        daemon.configure(SETTINGS)
        daemon.start()
        assert attached(lab)


def test_a_daemon_left_alone_stays_within_its_memory(lab: Lab) -> None:
    """A bound against growth under a flood of flows, far above the figure that the bench reports."""
    with Daemon(lab, SETTINGS) as daemon, Flood(lab, lab.links[0], "198.18.0.0/15", randomly=True) as flood:
        for _ in range(20):
            flood.deliver(100_000)
            time.sleep(0.1)
        daemon.wait_status(lambda s: s["accounting"]["seen"]["packets"] >= 2_000_000, "2,000,000 packets", timeout=60)
        assert anonymous_mib(daemon.pid) < 400


def anonymous_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no RssAnon")
