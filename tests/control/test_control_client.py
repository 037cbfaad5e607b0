"""The client: what it says when things are not as they should be, and how quickly it starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from control_fake import Running

from trafficmond.control.client import FORBIDDEN, UNREACHABLE, Client
from trafficmond.errors import ControlError


def test_calls_and_streams_share_a_connection(running: Running) -> None:
    running.canned.flow_rows = 700
    with Client(str(running.path)) as client:
        assert [len(reply["rows"]) for reply in client.stream("Flows", limit=5_000)] == [500, 200]
        assert client.call("Version") == {"version": "0.2.0"}
        assert client.call("org.varlink.service.GetInfo")["product"] == "trafficmond"


def test_errors_carry_name_reason_and_hint(running: Running) -> None:
    with Client(str(running.path)) as client:
        with pytest.raises(ControlError) as refusal:
            client.call("AddCidr", cidr="0.0.0.0/0")
        assert refusal.value.name == "io.trafficmon.Refused"
        assert str(refusal.value) == "0.0.0.0/0 would cut off this host; use --force to do it anyway"
        with pytest.raises(ControlError, match=r"^cidr: 'x' is not a valid prefix\naction: is odd too"):
            client.call("AddCidr", cidr="x")
        with pytest.raises(ControlError, match="cidr: is missing"):
            client.call("AddCidr")
        with pytest.raises(ControlError, match=r"answered MethodNotFound \(io.trafficmon.Nonsense\)"):
            client.call("Nonsense")


def test_no_socket_and_nobody_behind_it(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="there is no such socket; start the daemon") as refusal:
        Client(str(tmp_path / "none"))
    assert refusal.value.name == UNREACHABLE
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "left"))
    left.close()
    with pytest.raises(ControlError, match="nobody listens on it"):
        Client(str(tmp_path / "left"))
    (tmp_path / "file").touch()
    with pytest.raises(ControlError, match="file: it is not a socket"):
        Client(str(tmp_path / "file"))
    with pytest.raises(ControlError, match="cannot reach"):
        Client(str(tmp_path / ("x" * 200)))


def test_a_socket_that_is_closed_to_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("USER", "someone")
    monkeypatch.delenv("SUDO_USER", raising=False)
    with pytest.raises(ControlError, match="usermod -aG trafficmon someone") as refusal:
        Client(str(tmp_path / "io.trafficmon"))
    assert refusal.value.name == FORBIDDEN


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(65536)
                client.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"", "the daemon closed the connection"),
        (b'{"parameters": {', "the daemon closed the connection"),
        (b"HTTP/1.1 400 Bad Request\0", "does not speak Varlink"),
        *(
            (each + b"\0", "does not speak Varlink")
            for each in (
                b"[]",
                b"5",
                b'{"parameters": 5}',
                b'{"error": 5}',
                b'{"error": "x", "parameters": [1]}',
                b"[" * 9999,
            )
        ),
    ],
)
def test_strange_answers(tmp_path: Path, answer: bytes, told: str) -> None:
    path = tmp_path / "strange"
    with answering(path, answer), pytest.raises(ControlError, match=told), Client(str(path)) as client:
        client.call("Status")


@pytest.mark.parametrize("answer", [b"{}", b'{"parameters": null}', b'{"parameters": {"rows": [{}]}}'])
def test_an_answer_that_lacks_what_is_needed(tmp_path: Path, answer: bytes) -> None:
    """Of a daemon of another version, or of a program that has nothing to do with it."""
    path = tmp_path / "strange"
    with answering(path, answer + b"\0"), Client(str(path)) as client:
        reply = client.call("Flows")
        with pytest.raises(ControlError, match=r"the answer has no '(rows|src)'.*another version.*restart") as refusal:
            print(reply["rows"][0]["src"])
        assert refusal.value.name == UNREACHABLE


def test_a_daemon_that_does_not_answer(running: Running) -> None:
    running.canned.delay_s = 1
    with pytest.raises(ControlError, match="no answer within"), Client(str(running.path), timeout_s=0.1) as client:
        client.call("Status")


def test_importing_it_brings_nothing_heavy() -> None:
    """The client must start quickly: nothing of the server, nothing of numpy or asyncio."""
    code = "import sys; import trafficmond.control.client; print(*sys.modules)"
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root}
    loaded = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "asyncio", "pyroute2", "trafficmond.control.server"} & set(loaded.split())
