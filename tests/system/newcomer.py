"""What README tells a newcomer with a web server to do, over SSH."""

from __future__ import annotations

import re

from debian import ROOT
from host import HERE, INSTALL, PEER, SETTINGS, STRANGER, Host, must, soon

_KEY = "/root/newcomer"
_TALK = (
    "import socket, sys; s = socket.create_connection((sys.argv[1], int(sys.argv[3])), 1, (sys.argv[2], 0)); "
    "s.settimeout(3); s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n'); print(s.recv(40))"
)


def drops_by_default_over_ssh(host: Host) -> str:
    """README alone: a web server's default switched to drop over SSH; first forgetting SSH, and back in by itself"""
    host.run(f"{INSTALL} nginx >/dev/null && echo 'server {{ listen 8099; }}' >/etc/nginx/conf.d/hidden.conf")
    host.run("systemctl restart nginx")
    host.run(f"ssh-keygen -q -t ed25519 -N '' -f {_KEY} && install -D -m 600 {_KEY}.pub /root/.ssh/authorized_keys")
    must("HTTP" in _talk(host, STRANGER, 8099), "an answer of what nobody is to reach", "none")
    before = host.run(f"cat {SETTINGS}").stdout
    commands = _commands()
    must(len(commands) == 4 and commands[3].endswith("confirm"), "README's four commands", commands)
    allow_web, allow_ssh, apply, confirm = commands

    _over_ssh(host, allow_web)
    said = _over_ssh(host, apply.replace("2m", "3s"))
    must("not reachable" in said and "tcp/22" in said, "a warning that names sshd", said)
    # From an address that nobody is logged in from: those are guarded.
    must("timed out" in _over_ssh(host, "true", STRANGER, check=False), "a login from elsewhere to fail", "it did not")
    took = soon(lambda: _over_ssh(host, "true", STRANGER, check=False) == "", "a login when nobody confirms", 10)
    must(host.run(f"cat {SETTINGS}").stdout == before, "the settings as they were", "others")

    _over_ssh(host, allow_ssh)
    said += _over_ssh(host, apply)
    _over_ssh(host, "true", STRANGER)
    said += _over_ssh(host, confirm)
    must(re.search(r'^default = "drop"$', host.run(f"cat {SETTINGS}").stdout, re.M) is not None, "it written", said)
    host.run("systemctl restart trafficmond")
    soon(lambda: host.json("status")["rules"]["default"] == "drop", "a default of drop after a restart")
    found = [_talk(host, STRANGER, port)[:14] for port in (80, 22, 8099)]
    must(["HTTP" in found[0], "SSH" in found[1], found[2]] == [True, True, ""], "80 and 22 open, 8099 silent", found)

    host.run("systemctl stop nginx")
    host.run("trafficctl apply --default monitor && trafficctl confirm")
    host.run("trafficctl remove-cidr 0.0.0.0/0 --save; trafficctl remove-cidr ::/0 --save", check=False)
    must(host.ping() == 3, "pings answered under a default of monitor", "not all")
    return f"back in {took:.1f} s after it was noticed\n{said}"


def _commands() -> list[str]:
    """Those of README's passage, without sudo: over SSH it is root's session."""
    text = (ROOT / "README.md").read_text("utf-8").partition("**Drop everything else**")[2]
    lines = text.partition("```sh\n")[2].partition("```")[0].splitlines()
    return [line.partition("#")[0].strip().removeprefix("sudo ") for line in lines if not line.startswith("#")]


def _over_ssh(host: Host, command: str, source: str = PEER, check: bool = True) -> str:
    options = "-o StrictHostKeyChecking=no -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=1"
    login = f"ip netns exec peer ssh -i {_KEY} -b {source} {options} root@{HERE}"
    return host.run(f"{login} '{command}' 2>&1", check=check).stdout


def _talk(host: Host, source: str, port: int) -> str:
    """The first words of a server; "" where nothing comes."""
    return host.run(f'ip netns exec peer python3 -c "{_TALK}" {HERE} {source} {port}', check=False).stdout
