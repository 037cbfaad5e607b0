"""The listening socket: made, inherited, left behind, in use."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from control_fake import serving

from trafficmond.control import peers
from trafficmond.control.client import Client
from trafficmond.control.listen import open_socket
from trafficmond.errors import ControlError


def test_a_new_socket_is_for_owner_and_group_only(tmp_path: Path) -> None:
    path = tmp_path / "run" / "io.trafficmon"
    listener = open_socket(path, {})
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    listener.close()
    assert not path.exists()


def test_the_group_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = [group for group in os.getgroups() if group != os.getegid()]
    target = 12 if os.geteuid() == 0 else (groups[0] if groups else os.getegid())
    monkeypatch.setattr(peers, "group_id", lambda name: target if name == "trafficmon" else None)
    path = tmp_path / "io.trafficmon"
    listener = open_socket(path, {})
    assert path.stat().st_gid == target
    listener.close()


def test_a_stale_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "io.trafficmon"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    with serving(path), Client(str(path)) as client:
        assert client.call("Version")


def test_a_live_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "io.trafficmon"
    with serving(path):
        with pytest.raises(ControlError, match=rf"socket already in use by process {os.getpid()}; stop the other"):
            open_socket(path, {})
        with Client(str(path)) as client:
            assert client.call("Version")


def test_another_file_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "io.trafficmon"
    path.write_text("precious")
    with pytest.raises(ControlError, match="is not a socket"):
        open_socket(path, {})
    assert path.read_text() == "precious"


def test_a_path_that_will_not_do_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="cannot listen on"):
        open_socket(tmp_path / ("x" * 120), {})


def test_another_daemons_file_survives_our_end(tmp_path: Path) -> None:
    path = tmp_path / "io.trafficmon"
    listener = open_socket(path, {})
    path.unlink()
    path.write_text("another's")
    listener.close()
    assert path.exists()


INHERIT = """
import os, socket, sys
from pathlib import Path
from trafficmond.control.listen import open_socket
os.environ["LISTEN_PID"] = str(os.getpid())
listener = open_socket(Path("/nonexistent/never/made"))
print(listener.sock.getsockname(), "LISTEN_FDS" in os.environ, os.get_inheritable(listener.sock.fileno()))
listener.close()
"""


def test_a_socket_is_inherited_from_systemd(tmp_path: Path) -> None:
    """As sd_listen_fds(3) has it: from descriptor 3 on, named by pid and count; the file is not ours to remove."""
    path = tmp_path / "activated"
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_INET) as other:
        listening.bind(str(path))
        listening.listen()
        script = f"exec 3<&{other.fileno()} 4<&{listening.fileno()}; exec {sys.executable} -c '{INHERIT}'"
        done = subprocess.run(
            ["bash", "-c", script],
            env={**os.environ, "LISTEN_FDS": "2"},
            pass_fds=(listening.fileno(), other.fileno()),
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.stdout.split() == [str(path), "False", "False"], done.stderr
    assert path.exists()


def test_variables_meant_for_another_process_are_ignored(tmp_path: Path) -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    listener = open_socket(tmp_path / "io.trafficmon", environ)
    assert environ == {"LISTEN_PID": "1", "LISTEN_FDS": "1"}
    listener.close()
