"""Who calls, and what they may do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from control_fake import Running

from trafficmond.control import peers
from trafficmond.control.peers import Caller, Peer, peer_of

NOBODY = (1 << 32) - 1  # the login of a process that no login led to


def test_the_kernel_tells_who_connected() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        peer = peer_of(ours)
    assert (peer.caller.uid, peer.caller.gid, peer.caller.pid) == (os.geteuid(), os.getegid(), os.getpid())
    assert peer.caller.user
    assert set(os.getgroups()) <= peer.groups


@pytest.mark.parametrize(
    ("uid", "groups", "admin_gid", "may"),
    [
        (0, {0}, None, True),
        (0, {0}, 990, True),
        (1000, {1000, 990}, 990, True),
        (1000, {1000}, 990, False),
        (1000, {1000, 990}, None, False),
        (777, {777}, None, True),  # the daemon's own user
    ],
)
def test_who_may_change(uid: int, groups: set[int], admin_gid: int | None, may: bool) -> None:
    peer = Peer(Caller(uid, min(groups), 1, "x"), frozenset(groups))
    assert peer.may_change(admin_gid, own_uid=777) is may


def test_names_and_numbers() -> None:
    assert peers.user_name(0) == "root"
    assert peers.user_name(3_999_999) == "3999999"
    assert peers.group_id("root") == 0
    assert peers.group_id("no-such-group-here") is None


ASK_AS = """
import pwd, socket, sys
from pathlib import Path
own = Path("/proc/self/loginuid")
try:
    own.write_text(str(pwd.getpwnam("daemon").pw_uid))
except OSError:
    pass  # it has one already, and may not change it
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
print(own.read_text(), flush=True)
sys.stdin.read()
"""


def test_who_logged_in_is_known_behind_whoever_asks(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        command = [sys.executable, "-c", ASK_AS, str(tmp_path / "socket")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
            ours, _ = server.accept()
            assert asking.stdout
            assert asking.stdin
            told = int(asking.stdout.readline())
            with ours:
                caller = peer_of(ours).caller
            asking.stdin.close()
    assert caller.login == (None if told == NOBODY else peers.user_name(told))
    assert caller.user == peers.user_name(os.geteuid())
    assert peers.login_of(caller.pid) is None  # it has gone


@pytest.mark.parametrize(
    ("told", "login"), [("0", "root"), ("3999999\n", "3999999"), (str(NOBODY), None), ("", None), ("x", None)]
)
def test_a_login_is_a_name_or_unknown(tmp_path: Path, told: str, login: str | None) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "loginuid").write_text(told)
    assert peers.login_of(7, tmp_path) == login
    assert peers.login_of(0, tmp_path) is None  # of another namespace of processes


CALL_AS = """
import os, sys
os.setgroups([int(sys.argv[3])]); os.setgid(65534); os.setuid(65534)
sys.path.insert(0, sys.argv[1])
from trafficmond.control.client import Client
from trafficmond.errors import ControlError
try:
    with Client(sys.argv[2]) as client:
        client.call("Version")
        client.call("AddCidr", cidr="192.0.2.0/24")
    print("done")
except ControlError as error:
    print(error.name, error.hint)
"""


def call_as_nobody(running: Running, group: int) -> str:
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", CALL_AS, root, str(running.path), str(group)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.root
def test_another_user_is_kept_out_looks_or_changes_by_its_groups(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in running.path.parents:
        if "pytest-of-" in str(folder):  # with -n there is one more
            folder.chmod(0o755)
    assert call_as_nobody(running, 4242).startswith("forbidden use sudo")
    running.path.chmod(0o666)
    assert call_as_nobody(running, 4242).startswith("io.trafficmon.PermissionDenied use sudo, or join")
    assert not running.canned.runtime
    monkeypatch.setattr(peers, "group_id", lambda name: 4242 if name == "trafficmon-admin" else None)
    assert call_as_nobody(running, 4242) == "done\n"
    assert running.canned.callers[-1].user == "nobody"
