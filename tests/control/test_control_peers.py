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
    for folder in list(running.path.parents)[:3]:
        folder.chmod(0o755)
    assert call_as_nobody(running, 4242).startswith("forbidden use sudo")
    running.path.chmod(0o666)
    assert call_as_nobody(running, 4242).startswith("io.trafficmon.PermissionDenied use sudo, or join")
    assert not running.canned.runtime
    monkeypatch.setattr(peers, "group_id", lambda name: 4242 if name == "trafficmon-admin" else None)
    assert call_as_nobody(running, 4242) == "done\n"
    assert running.canned.callers[-1].user == "nobody"
