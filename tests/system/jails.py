"""A real fail2ban whose bans trafficmon carries out, with the actions of docs/migrating.md."""

from __future__ import annotations

import re

from debian import ROOT
from host import HERE, INSTALL, PEER, STRANGER, Host, must, soon

_LOG = "/var/log/auth.log"
# Names are never looked up: without DNS each would take half a minute. No word of the journal: the log is written here.
_MORE = f"""
usedns = no
ignoreself = false
backend = polling
bantime = 600

[sshd]
enabled = true
backend = polling
logpath = {_LOG}
maxretry = 3

[recidive]
enabled = true
maxretry = 1
bantime = -1
"""
_FAILED = "Failed password for root from {} port 4022 ssh2"
_CONNECT = "import socket; socket.create_connection(('{}', 22), 1, ('{}', 0))"


def carries_out_the_bans_of_fail2ban(host: Host) -> str:
    """fail2ban with two jails: who guesses passwords is banned by both, each lifts its own, a stop lifts all"""
    pages = dict(re.findall(r"```text\n# (/etc/fail2ban/\S+)\n(.*?)```", _migrating(), re.DOTALL))
    for path, text in pages.items():
        file = host.folder / path.removeprefix("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + (_MORE if path.endswith("jail.local") else ""))
    must(len(pages) == 3, "two actions and a jail.local in docs/migrating.md", sorted(pages))
    host.run(f"touch {_LOG} /var/log/fail2ban.log && {INSTALL} fail2ban")
    try:
        soon(lambda: "recidive, sshd" in host.run("fail2ban-client status").stdout, "both jails")
        line = f"$(date '+%b %d %H:%M:%S') here sshd[77]: {_FAILED.format(PEER)}"
        host.run(f'for i in 1 2 3; do echo "{line}"; done >>{_LOG}')
        took = soon(lambda: _bans(host, PEER) == {"sshd": ["tcp/22"], "recidive": None}, "a ban by each jail", 15)
        must(host.ping() == 0, "nothing answered: recidive bans from all ports", "pings answered")
        host.run(f"fail2ban-client set recidive unbanip {PEER}")
        must(_bans(host, PEER) == {"sshd": ["tcp/22"]}, "the other jail's ban alone", _bans(host, PEER))
        must((host.ping(), _connects(host, PEER)) == (3, False), "pings answered, SSH not", _connects(host, PEER))
        host.run(f"fail2ban-client set sshd unbanip {PEER}")
        must(_bans(host, PEER) == {}, "no ban any more", _bans(host, PEER))
        must(_connects(host, PEER), "SSH answered again", "nothing")
        host.run(f"trafficctl ban {STRANGER} --ttl 1h")
        for jail in ("sshd", "recidive"):
            host.run(f"fail2ban-client set {jail} banip {STRANGER}")
        soon(lambda: len(_bans(host, STRANGER)) == 2, "the stranger banned by both")
        host.run("systemctl stop fail2ban")
        must(_bans(host, STRANGER) == {}, "fail2ban's bans lifted", _bans(host, STRANGER))
        must(host.ping(source=STRANGER) == 0, "the ban by hand to stay", "pings answered")
    finally:
        host.run(f"apt-get purge -y -q fail2ban && rm -rf /etc/fail2ban {_LOG}")
        host.run(f"trafficctl unban {STRANGER} --all", check=False)
    return f"banned {took:.1f} s after the third guess"


def _migrating() -> str:
    return (ROOT / "docs" / "migrating.md").read_text()


def _bans(host: Host, address: str) -> dict[str, list[str] | None]:
    """The ports that each jail bans an address from, None for all, by the jail's name."""
    rows = [row for row in host.json("bans") if row["cidr"].partition("/")[0] == address]
    owned = {row["owner"].removeprefix("fail2ban-"): row["ports"] for row in rows if row["owner"] != "root"}
    return {jail: ports and [each for each in ports if each] for jail, ports in owned.items()}


def _connects(host: Host, source: str) -> bool:
    done = host.run(f'ip netns exec peer python3 -c "{_CONNECT.format(HERE, source)}"', check=False)
    return done.returncode == 0
