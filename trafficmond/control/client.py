"""The control socket from the client's side: synchronous, standard library only, quick to import."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from trafficmond.errors import ControlError

INTERFACE = "io.trafficmon"
DEFAULT_SOCKET = "/run/trafficmon/io.trafficmon"
UNREACHABLE = "unreachable"  # ControlError.name if the daemon cannot be reached
FORBIDDEN = "forbidden"  # ... and if this user may not open the socket

_CHUNK = 1 << 16
_GIVE = "give trafficmond's socket: -s PATH"


class Client:
    """One connection; one call at a time."""

    def __init__(self, path: str = DEFAULT_SOCKET, timeout_s: float | None = 30.0) -> None:
        """Connects. Raises ControlError named UNREACHABLE or FORBIDDEN, with a hint."""
        self._path = path
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if timeout_s:
            # Not settimeout: connect on a non-blocking Unix socket fails at once if the daemon's backlog is full.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout_s) or 1, 0))
        try:
            self._socket.connect(path)
            self._socket.settimeout(timeout_s)
        except OSError as error:
            self._socket.close()
            raise _cannot_connect(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnects; the daemon ends a stream that is under way."""
        self._socket.close()

    def fileno(self) -> int:
        """For `select`."""
        return self._socket.fileno()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Makes a call and returns its reply; parameters that are None are left out. Raises ControlError with the
        Varlink error's name, reason and hint."""
        self._send(method, parameters, more=False)
        return _parameters(self._receive())

    def stream(self, method: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Makes a call at once, and yields its replies until the daemon ends them. Raises ControlError like `call`."""
        self._send(method, parameters, more=True)
        return self._replies()

    def _replies(self) -> Iterator[dict[str, Any]]:
        while True:
            message = self._receive()
            yield _parameters(message)
            if not message.get("continues"):
                return

    def patient(self) -> None:
        """Removes the time limit, for slow replies and for streams with long pauses."""
        self._socket.settimeout(None)

    def _send(self, method: str, parameters: dict[str, Any], more: bool) -> None:
        name = method if "." in method else f"{INTERFACE}.{method}"
        message: dict[str, Any] = {
            "method": name,
            "parameters": {key: value for key, value in parameters.items() if value is not None},
        }
        if more:
            message["more"] = True
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise self._lost(error) from error

    def _receive(self) -> dict[str, Any]:
        scanned = 0
        while (end := self._buffer.find(b"\0", scanned)) < 0:
            scanned = len(self._buffer)
            try:
                chunk = self._socket.recv(_CHUNK)
            except OSError as error:
                raise self._lost(error) from error
            if not chunk:
                raise self._lost(None)
            self._buffer += chunk
        raw = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message: dict[str, Any] = json.loads(raw, object_hook=_Answered)
            is_reply = isinstance(message.get("parameters") or {}, dict) and isinstance(message.get("error") or "", str)
        except (AttributeError, RecursionError, ValueError):
            is_reply = False
        if not is_reply:
            raise ControlError(f"{self._path} does not speak Varlink", name=UNREACHABLE, hint=_GIVE)
        return message

    def _lost(self, error: OSError | None) -> ControlError:
        if isinstance(error, TimeoutError):
            what = f"no answer within {self._socket.gettimeout():.0f} s"
        else:
            what = f"connection lost ({error.strerror})" if error else "the daemon closed the connection"
        hint = "see the journal: journalctl -u trafficmond -n 50"
        return ControlError(f"{self._path}: {what}", name=UNREACHABLE, hint=hint)


class _Answered(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        what = f"the answer has no {key!r}, as if from a daemon of another version, or another program"
        raise ControlError(what, name=UNREACHABLE, hint=f"sudo systemctl restart trafficmond, or {_GIVE}")


def _parameters(message: dict[str, Any]) -> dict[str, Any]:
    parameters: dict[str, Any] = message.get("parameters") or _Answered()
    name = message.get("error")
    if not name:
        return parameters
    reason = parameters.get("reason") or _plain(name, parameters)
    mistakes = [f"{each['where']}: {each['what']}" for each in parameters.get("mistakes") or ()]
    # With several, the reason is the first of them.
    text = "\n".join(mistakes) if len(mistakes) > 1 else reason
    raise ControlError(text, name=name, hint=parameters.get("hint", ""))


def _plain(name: str, parameters: dict[str, Any]) -> str:
    details = ", ".join(str(value) for value in parameters.values())
    kind = name.rpartition(".")[2]
    if kind == "InvalidParameter":
        return details
    return f"the daemon answered {kind}" + (f" ({details})" if details else "")


def _cannot_connect(path: str, error: OSError) -> ControlError:
    if isinstance(error, PermissionError):
        user = os.environ.get("SUDO_USER") or os.environ.get("USER") or "YOU"
        hint = f"use sudo, or join the group: sudo usermod -aG trafficmon {user}, and log in again"
        return ControlError(f"not permitted to open {path}", name=FORBIDDEN, hint=hint)
    what, hint = error.strerror or str(error), _GIVE
    if isinstance(error, FileNotFoundError):
        what = "there is no such socket"
        hint = "start the daemon: sudo systemctl start trafficmond; or name its socket: -s"
        if "/" not in path:
            hint = "-s names the daemon's socket; times are given with --since, and an order with --sort"
    elif isinstance(error, ConnectionRefusedError):
        what, hint = "nobody listens on it", "the daemon is not running: sudo systemctl start trafficmond"
        if not Path(path).is_socket():
            what, hint = "it is not a socket", _GIVE
    return ControlError(f"cannot reach trafficmond at {path}: {what}", name=UNREACHABLE, hint=hint)
