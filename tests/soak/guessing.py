"""Passwords guessed at a real sshd, as root, with the response on as shipped: by hydra with four tasks, and by one who
takes his time.

    sudo env PYTHONPATH=tests/lab:. .venv/bin/python tests/soak/guessing.py

The slow one tries every third second, which stands for 20 an hour: the slow window is shortened by as much, two hours
to two minutes. The daemon is restarted while he is at it. Both have to be found and banned.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tmlab import Daemon, Lab

HYDRA, SLOW, HOST = "203.0.113.2", "203.0.113.3", "203.0.113.1"
SETTINGS = """
[response]
ban = "on"
[detect.brute_force]
slow_window = "{slow}"
"""
_EVERY_S, _RESTART_AFTER = 3.0, 8  # guesses
_PATIENCE_S = 330.0  # docs/detectors.md: 25 connections alike at five a minute


def main() -> int:
    with ExitStack() as stack:
        lab = stack.enter_context(Lab())
        for address in (HYDRA, SLOW):
            lab.outside.ip(f"addr add {address}/24 dev {lab.links[0].outside}")
        lab.host.ip(f"addr add {HOST}/24 dev {lab.links[0].host}")
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"{lab.name}-")))
        start_sshd(stack, lab, home)
        right = [fast(lab, home), slow(lab, home)]
    return 0 if all(right) else 1


def start_sshd(stack: ExitStack, lab: Lab, home: Path) -> None:
    """Debian's sshd with Debian's settings: PAM, and so a pause after each wrong password."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / "key")], check=True)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    options = ["-o", "UsePAM=yes", "-o", "PermitRootLogin=yes", "-o", "PidFile=none", "-o", f"ListenAddress={HOST}"]
    log = stack.enter_context((home / "sshd.log").open("w"))
    command = lab.host.argv("/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *options, "-h", str(home / "key"))
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    stack.callback(server.wait)
    stack.callback(server.terminate)
    time.sleep(1)


def fast(lab: Lab, home: Path) -> bool:
    words = home / "words"
    words.write_text("".join(f"word{number}\n" for number in range(2000)))
    with Daemon(lab, SETTINGS.format(slow="2h")) as daemon:
        began = time.time()
        command = lab.outside.argv("hydra", "-I", "-l", "root", "-P", str(words), "-t", "4", f"ssh://{HOST}")
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=home) as hydra:
            banned = until_banned(daemon, HYDRA, began, _PATIENCE_S)
            hydra.terminate()
        return told("hydra -t 4", daemon, HYDRA, banned, home)


def slow(lab: Lab, home: Path) -> bool:
    (home / "sshd.log").write_text("")
    words = home / "password"
    words.write_text("#!/bin/sh\necho guess\n")
    words.chmod(0o755)
    with Daemon(lab, SETTINGS.format(slow="2m")) as daemon:
        began, guesses, banned = time.time(), 0, 0.0
        while not banned and guesses < 40:
            # A real password, so that PAM holds the refusal back: who offers none is refused at once.
            options = ("NumberOfPasswordPrompts=1", "PreferredAuthentications=password", "ConnectTimeout=3")
            options += ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
            set_so = [word for option in options for word in ("-o", option)]
            command = lab.outside.argv("ssh", "-F", "none", "-b", SLOW, *set_so, f"root@{HOST}", "true")
            environment = {**os.environ, "SSH_ASKPASS": str(words), "SSH_ASKPASS_REQUIRE": "force"}
            subprocess.run(command, capture_output=True, check=False, env=environment)
            guesses += 1
            if guesses == _RESTART_AFTER:
                daemon.stop()
                daemon.start()
            banned = until_banned(daemon, SLOW, began, began + guesses * _EVERY_S - time.time())
        print(f"one guess each {_EVERY_S:.0f} s for 20 an hour, {guesses} of them, a restart after {_RESTART_AFTER}")
        return told("slow guesser", daemon, SLOW, banned, home)


def until_banned(daemon: Daemon, source: str, began: float, patience_s: float) -> float:
    """Seconds since `began` at which the source was seen to be banned; 0: not within so long."""
    end = time.time() + max(patience_s, 0.1)
    while time.time() < end:
        if any(ban["cidr"] == f"{source}/32" for ban in daemon.ask("bans")):
            return time.time() - began
        time.sleep(min(1.0, max(end - time.time(), 0.01)))
    return 0.0


def told(who: str, daemon: Daemon, source: str, banned: float, home: Path) -> bool:
    threats: list[dict[str, Any]] = [each for each in daemon.ask("threats") if each["src_ip"] == source]
    failures = (home / "sshd.log").read_text(errors="replace").count("Failed password for root")
    print(
        f"{who}: banned after {banned:.1f} s, {failures} passwords refused until then" if banned else f"{who}: no ban"
    )
    for threat in threats:
        seconds = threat["last_seen"] - threat["first_seen"]
        print(f"  {threat['severity']} {threat['detector']}: {threat['summary']}, over {seconds:.0f} s", flush=True)
    return bool(banned) and [each["detector"] for each in threats] == ["brute_force"]


if __name__ == "__main__":
    sys.exit(main())
