"""The default switched to drop on probation by somebody who is there over a real SSH session, and shut out by it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tmlab import Daemon, Lab
from tmlab.daemon import PYTHON, ROOT

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(SSHD is None, reason="needs sshd; install: apt-get install openssh-server"),
]
ADMIN = "203.0.113.7"  # no gateway, which would be guarded, and no session that logind knows of


class Ssh:
    """An sshd on the lab's host, and logins from the administrator's address."""

    def __init__(self, daemon: Daemon, folder: Path) -> None:
        lab, link = daemon.lab, daemon.lab.links[0]
        lab.outside.ip(f"addr add {ADMIN}/32 dev lo")
        lab.host.ip(f"route add {ADMIN}/32 via {link.outside_ip}")
        key = folder / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        options = ["StrictModes=no", "PidFile=none", "PermitRootLogin=yes", "UsePAM=no"]
        options += [f"ListenAddress={link.host_ip}", f"AuthorizedKeysFile={key}.pub"]
        words = [word for option in options for word in ("-o", option)]
        argv = lab.host.argv(str(SSHD), "-D", "-e", "-f", "/dev/null", *words, "-h", str(key))
        self.server = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        known = ["StrictHostKeyChecking=no", "BatchMode=yes", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        words = [word for option in [*known, "ConnectTimeout=1"] for word in ("-o", option)]
        self.login = lab.outside.argv("ssh", "-F", "none", "-i", str(key), "-b", ADMIN, *words, f"root@{link.host_ip}")
        self.control = f"cd / && PYTHONPATH={ROOT} {PYTHON} -m trafficctl -s {daemon.socket}"

    def __call__(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.login, command], capture_output=True, text=True, timeout=15, check=False)

    def gets_in(self) -> bool:
        return self("true").returncode == 0


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with Lab() as lab, Daemon(lab, "[policy]\n# as shipped\n#default = 'monitor'\n") as daemon:
        yield daemon


@pytest.fixture
def ssh(daemon: Daemon, tmp_path: Path) -> Iterator[Ssh]:
    ssh = Ssh(daemon, tmp_path)
    try:
        daemon.wait(ssh.gets_in, "a login")
        yield ssh
    finally:
        ssh.server.terminate()
        ssh.server.wait()


def test_whoever_shuts_himself_out_by_the_default_gets_in_again(daemon: Daemon, ssh: Ssh) -> None:
    """With the daemon killed meanwhile; then with a rule for himself, which he confirms over the same way."""
    before = daemon.config.read_text()
    change = f"{ssh.control} apply --default drop --confirm-within 4s"
    session = subprocess.Popen([*ssh.login, f"{change}; sleep 1; echo back"], stdout=subprocess.PIPE, text=True)
    until = daemon.wait_status(lambda status: status["probation"], "the change over SSH")["probation"]["until"]
    assert daemon.status()["rules"]["default"] == "drop"
    daemon.kill()
    assert not ssh.gets_in()
    assert time.time() < until, "too slow to have been shut out"
    time.sleep(max(0.0, until - time.time()))
    daemon.wait(ssh.gets_in, "a login when the time is over", 5)
    assert session.communicate(timeout=15)[0].endswith("back\n"), "the session goes on where it was"
    daemon.start()
    assert daemon.status()["rules"]["default"] == "monitor"
    assert daemon.config.read_text() == before

    assert ssh(f"{ssh.control} allow ssh from {ADMIN} --save").returncode == 0
    applied = ssh(f"{ssh.control} apply --default drop --confirm-within 20s")
    assert (applied.returncode, "ON PROBATION" in applied.stdout) == (0, True), applied
    assert ssh.gets_in()
    daemon.kill()
    daemon.start()
    assert daemon.status()["probation"], "a restart goes on with it"
    confirmed = ssh(f"{ssh.control} confirm")
    assert confirmed.returncode == 0, confirmed
    assert "confirmed: apply" in confirmed.stdout
    assert daemon.config.read_text() == before.replace("monitor'\n", 'monitor\'\ndefault = "drop"\n')
    assert not list(daemon.home.glob("*apply-default*"))
    daemon.kill()
    daemon.start()
    status = daemon.status()
    assert (status["probation"], status["rules"]["default"]) == (None, "drop")
    assert ssh.gets_in()
    assert {each["change"] for each in daemon.ask("audit")} >= {"apply", "rollback", "confirm"}
