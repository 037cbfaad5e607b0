"""Whom the guard takes for somebody who is logged in, and what libsystemd tells of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trafficmond.datapath import sessions
from trafficmond.datapath.sessions import Session, logged_in, open_sessions

ROOT = Path(__file__).parents[2]
# As logind writes it, for libsystemd to read.
SESSION = "UID=1000\nACTIVE=1\nSTATE={state}\nREMOTE=1\nTYPE=tty\nCLASS=user\nREMOTE_HOST={host}\nSERVICE=sshd\n"
TOLD = "from trafficmond.datapath.sessions import *; found = open_sessions(); print(len(found), logged_in(found))"


def session(host: str, service: str = "sshd", state: str = "active", kind: str = "user") -> Session:
    return Session(host, service, state, kind)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("fe80::7%eth0", "fe80::7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("host.example.net", None),  # whoever answers for the name would choose the address
        ("192.0.2.0/24", None),
        (":0", None),
        ("", None),
    ],
)
def test_addresses_count_and_names_do_not(host: str, address: str | None) -> None:
    assert logged_in([session(host)]) == ({address: "sshd"} if address else {})


@pytest.mark.parametrize(
    ("state", "kind", "counts"),
    [
        ("active", "user", True),
        ("online", "user", True),
        ("opening", "user", True),
        ("active", "user-early", True),  # root
        ("closing", "user", False),  # logged out, a process is left
        ("active", "greeter", False),  # not authenticated yet
        ("active", "background", False),
        ("", "", False),  # ended while it was looked at
    ],
)
def test_only_who_has_authenticated_and_is_still_there_counts(state: str, kind: str, counts: bool) -> None:
    assert bool(logged_in([session("192.0.2.7", state=state, kind=kind)])) is counts


def test_a_host_with_several_sessions_is_reported_once_with_all_its_services() -> None:
    found = [session("192.0.2.7", "sshd"), session("192.0.2.7", "cockpit"), session("192.0.2.7"), session("192.0.2.8")]
    assert logged_in(found) == {"192.0.2.7": "cockpit, sshd", "192.0.2.8": "sshd"}


def test_a_host_without_logind_is_distinguished_from_one_where_nobody_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_LOGIND", tmp_path)
    monkeypatch.setattr(sessions, "_library", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        open_sessions()
    monkeypatch.setattr(sessions, "_LOGIND", tmp_path / "missing")
    assert open_sessions() is None


@pytest.mark.root
def test_libsystemd_tells_the_oldest_sessions_up_to_a_bound(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root, to put sessions in /run/systemd of a mount namespace of its own; run with sudo")
    for number in range(sessions.MOST + 20):
        (tmp_path / str(number)).write_text(SESSION.format(state="active", host="192.0.2.1"))
    (tmp_path / "7").write_text(SESSION.format(state="active", host="2001:db8::7"))
    (tmp_path / "8").write_text(SESSION.format(state="closing", host="192.0.2.8"))
    (tmp_path / "9").write_text(SESSION.format(state="active", host="192.0.2.9").replace("REMOTE=1", "REMOTE=0"))
    (tmp_path / str(sessions.MOST)).write_text(SESSION.format(state="active", host="192.0.2.99"))
    script = "mount -t tmpfs tmpfs /run/systemd && mkdir /run/systemd/seats /run/systemd/sessions"
    script += ' && cp "$1"/* /run/systemd/sessions && exec "$2" -c "$3"'
    command = ["unshare", "--mount", "sh", "-ec", script, "sh", str(tmp_path), sys.executable, TOLD]
    Path("/run/systemd").mkdir(exist_ok=True)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    expected = {"192.0.2.1": "sshd", "2001:db8::7": "sshd"}
    assert done.stdout.strip() == f"{sessions.MOST - 1} {expected}"
