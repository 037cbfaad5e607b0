"""Who is logged in from elsewhere, by a real sshd and a real logind."""

from __future__ import annotations

import time
from typing import Any

from host import HERE, PEER, RULES, SETTINGS, STRANGER, Host, must, soon

SSH_PORT = 2222  # not the usual one: who is logged in is guarded, not a port


def spares_who_is_logged_in(host: Host) -> str:
    """a file that drops the administrator's own address: the SSH session goes on; who only connected is dropped"""
    host.run("ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519")
    host.run("install -D -m 600 -o admin -g admin /root/.ssh/id_ed25519.pub /home/admin/.ssh/authorized_keys")
    host.run(f"printf 'Port 22\\nPort {SSH_PORT}\\n' >/etc/ssh/sshd_config.d/ports.conf && systemctl restart ssh")
    login = f"ssh -b {PEER} -p {SSH_PORT} -o StrictHostKeyChecking=no admin@{HERE}"
    host.popen(f"exec ip netns exec peer {login} 'while sleep 0.02; do date; done' >/tmp/heard")
    connect = f"socket.create_connection(('{HERE}', 22), source_address=('{STRANGER}', 0))"
    host.popen(f'exec ip netns exec peer python3 -c "import socket, time; c = {connect}; time.sleep(90)"')
    try:
        soon(lambda: _heard(host), "the session's first words")
        soon(lambda: host.run(f"ss -Htn state established dst {STRANGER}").stdout, "the stranger's connection")
        must(_decides(host, PEER)["kind"] == "default", "no guard yet: no rule has changed", _decides(host, PEER))
        rule = '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\ndirection = "both"'
        host.run(f"echo '{rule}' >{RULES}/40-mine.toml")
        soon(lambda: host.ping(source=STRANGER) == 0, "the stranger dropped, connection to port 22 or not")
        before = _heard(host)
        time.sleep(3)
        heard = _heard(host) - before
        must(heard > 30, "the session to go on: more lines in 3 s than TCP sends unanswered", f"{heard} lines")
        guard = _decides(host, PEER)
        must((guard["kind"], guard["label"]) == ("guard", "open session (sshd)"), "a guard that says why", guard)
        must(_decides(host, STRANGER)["kind"] == "rule", "the rule to decide about the stranger", "another")
        said = host.run(f"trafficctl explain {PEER}").stdout
        for command in (f"ban {PEER}", f"add-cidr {PEER}"):
            refused = host.run(f"trafficctl {command}", check=False)
            must(refused.returncode == 1 and "logged in" in refused.stderr, f"{command} refused", refused.stderr)
        host.run(f"sed -i 's/^#default = .*/default = \"drop\"/' {SETTINGS}")
        host.run(f"rm {RULES}/40-mine.toml && trafficctl reload")
        must(_decides(host, STRANGER)["action"] == "drop", "a default of drop for the stranger", "another")
        must(host.ping() == 3, "the host of the session answered under a default of drop", "not all")
    finally:
        host.run("pkill -x ssh; pkill -f create_connection", check=False)
    soon(
        lambda: _decides(host, PEER)["action"] == "drop",
        "no guard seconds after the session, with no change of rules",
        15,
    )
    host.run(f"sed -i 's/^default = .*/#default = \"monitor\"/' {SETTINGS} && trafficctl reload")
    return f"{heard} lines in 3 s after the rule\n{said}"


def _heard(host: Host) -> int:
    return int(host.run("wc -l </tmp/heard").stdout)


def _decides(host: Host, address: str) -> Any:
    return host.json(f"explain {address}")["decisions"][0]
