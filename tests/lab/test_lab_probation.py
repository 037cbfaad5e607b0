"""Changes on probation in a live kernel: who ends them, and what passes under which rules."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest
from tmlab import Daemon, Lab, Listener, Sender
from tmlab.daemon import remove_pins
from tmlab.packets import udp

pytestmark = pytest.mark.root
A, B, C = "203.0.113.7", "198.51.100.7", "192.0.2.77"


def rule(source: str) -> str:
    return f'[[rule]]\ncidr = "{source}"\naction = "drop"\n'


def dropped(daemon: Daemon) -> str:
    """Which of A, B and C do not get through."""
    lab, link = daemon.lab, daemon.lab.links[0]
    with Listener(lab.host, link.host_ip) as listener, Sender(lab.outside, link.outside) as sender:
        sender.send([udp(source, link.host_ip) for source in (A, B, C)])
        time.sleep(0.1)
        heard = listener.heard()
    return "".join(name for name, source in zip("ABC", (A, B, C), strict=True) if source not in heard)


@contextlib.contextmanager
def waiting_for_connections(lab: Lab) -> Iterator[None]:
    with lab.host.entered():
        waiting = socket.create_server((lab.links[0].host_ip, 2222))
    with waiting:
        yield


def test_it_is_ended_by_the_kernel_and_nobody_else() -> None:
    """With the daemon killed, its folder of state gone, its socket with it; then a daemon that knows what was."""
    with Lab() as lab, Daemon(lab, rules={"a.toml": rule(A)}) as daemon:
        folder = daemon.home / "cidr.new"
        folder.mkdir()
        (folder / "b.toml").write_text(rule(B))
        assert dropped(daemon) == "A"
        applied = daemon.ask("apply", str(folder), "--confirm-within", "1m")
        until = applied["probation"]["until"]
        assert dropped(daemon) == "B"
        daemon.control("ban", C)
        assert dropped(daemon) == "BC"
        daemon.kill()
        assert dropped(daemon) == "BC"
        daemon.start()
        assert daemon.status()["probation"]["until"] == pytest.approx(until, abs=0.1)
        assert dropped(daemon) == "BC", "it goes on"
        again = daemon.ask("apply", str(folder), "--confirm-within", "2s")["probation"]["until"]
        assert again < until, "the second takes the place of the first"
        until = again
        daemon.kill()
        time.sleep(max(0.0, until - time.time()) + 0.05)
        assert dropped(daemon) == "AC", "a ban that was made meanwhile stays"
        daemon.start()
        assert daemon.status()["probation"] is None
        assert "not confirmed in time" in daemon.said()
        assert dropped(daemon) == "AC"
        assert {each["change"] for each in daemon.ask("audit")} >= {"apply", "rollback", "ban"}

        daemon.control("apply", str(folder))
        daemon.control("confirm")
        assert dropped(daemon) == "BC"
        assert [path.name for path in daemon.cidr_dir.iterdir()] == ["b.toml"]
        (kept,) = (path for path in daemon.home.iterdir() if path.name.startswith("cidr.d."))
        assert (kept / "a.toml").read_text() == rule(A)
        sources = [each["source"] for each in daemon.ask("rules") if each["kind"] == "rule"]
        assert sources == [f"{daemon.cidr_dir}/b.toml:1"]


def test_a_machine_that_starts_anew_has_what_was_confirmed() -> None:
    """A default of drop in the settings, on probation by itself, since SSH could not be reached; then no pins."""
    settings = '[policy]\nprobation = "1m"\n'
    with Lab() as lab, Daemon(lab, settings, rules={"a.toml": rule(A)}) as daemon, waiting_for_connections(lab):
        daemon.configure(f'{settings}default = "drop"\nestablished = false\nguard = false\n')
        daemon.wait_status(lambda status: status["probation"], "a probation")
        assert daemon.status()["rules"]["default"] == "drop"
        assert dropped(daemon) == "ABC"
        daemon.kill()
        remove_pins(daemon.pins)
        daemon.start()
        status = daemon.status()
        assert (status["probation"], status["rules"]["default"]) == (None, "monitor")
        assert any("nobody confirmed" in each for each in status["warnings"])
        assert "ended by a reboot or a stop" in daemon.said()
        assert dropped(daemon) == "A"
        daemon.control("apply", "--confirm-within", "1m")
        assert dropped(daemon) == "ABC"
        assert json.loads(daemon.control("-o", "json", "confirm").stdout)["confirmed"] == "apply"
        assert dropped(daemon) == "ABC"
        daemon.kill()
        daemon.start()
        assert daemon.status()["rules"]["default"] == "drop"


@pytest.mark.parametrize("of_file", [False, True])
def test_settings_in_mid_probation_when_the_machine_starts_anew(of_file: bool) -> None:
    """`apply --default drop`, and a settings file: then the daemon is killed, and pins and socket are gone."""
    with Lab() as lab, Daemon(lab, "[policy]\nguard = false\n", rules={"a.toml": rule(A)}) as daemon:
        before = daemon.config.read_bytes()
        copy = daemon.home / ("other.toml" if of_file else "trafficmond.apply-default-drop.toml")
        (daemon.home / "more.netset").write_text(B)
        if of_file:
            copy.write_text(f'{daemon.config.read_text()}\n[[list]]\npath = "more.netset"\naction = "drop"\n')
        what, wanted = (str(copy), "AB") if of_file else ("--default=drop", "ABC")
        daemon.control("apply", what, "--confirm-within", "5m")
        assert dropped(daemon) == wanted
        daemon.kill()
        remove_pins(daemon.pins)
        daemon.socket.unlink()
        daemon.start()
        status = daemon.status()
        assert (status["probation"], status["rules"]["default"]) == (None, "monitor")
        assert "ended by a reboot or a stop" in daemon.said()
        assert (dropped(daemon), daemon.config.read_bytes()) == ("A", before)
        assert daemon.control("confirm", check=False).returncode == 1, "there is nothing to confirm any more"
        daemon.control("apply", what)
        daemon.control("confirm")
        daemon.kill()
        remove_pins(daemon.pins)
        daemon.start()
        assert (dropped(daemon), daemon.status()["probation"]) == (wanted, None)
        assert daemon.config.read_bytes() != before
        assert copy.exists() is of_file
