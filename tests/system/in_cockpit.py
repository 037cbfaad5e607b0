"""trafficmon in Cockpit: what that takes on the machine, and a day in a browser that runs beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from debian import PATIENCE, ROOT, Failure
from host import INSTALL, Host

DAY = Path(__file__).parent / "cockpit_day.py"
USERS = {"nobody-yet": "", "looker": "trafficmon", "keeper": "trafficmon,trafficmon-admin", "boss": "sudo"}
PASSWORD = "not a secret 1"


def is_managed_in_cockpit(host: Host) -> str:
    """Cockpit: looks, is refused, becomes admin, finds the top talker, bans and lifts; the daemon stopped and back"""
    host.run(f"{INSTALL} cockpit-ws cockpit-bridge cockpit-system sudo cockpit-trafficmon")
    for user, groups in USERS.items():
        host.run(f"useradd -m -s /bin/bash -G '{groups}' {user} && echo '{user}:{PASSWORD}' | chpasswd")
    # The name as an installer leaves it: without, sudo asks a DNS that is not there.
    host.run("echo 127.0.1.1 $(hostname) >>/etc/hosts")
    host.run("ip link set lo up && systemctl start cockpit.socket")
    machine = host.machine
    script = [sys.executable, str(DAY), machine.name, str(machine.folder), str(machine.leader)]
    pictures = ROOT / "build" / "system" / f"{machine.name}-cockpit"
    command = ["nsenter", "-t", str(machine.leader), "--net", *script, str(pictures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=480 * PATIENCE, check=False)
    if done.returncode:
        raise Failure(f"{done.stdout}{done.stderr}")
    return done.stdout
