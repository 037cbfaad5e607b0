"""The listening socket: inherited by socket activation, or created at its path."""

import contextlib
import errno
import logging
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

from trafficmond.control import peers
from trafficmond.errors import ControlError

log = logging.getLogger(__name__)

_FIRST_FD = 3  # sd_listen_fds(3)
_BACKLOG = 128


class Listener:
    """A listening socket; `close` removes its file if this process created it."""

    def __init__(self, sock: socket.socket, made: Path | None = None) -> None:
        self.sock = sock
        self._made = made
        self._inode = made.stat().st_ino if made else 0

    def close(self) -> None:
        """Closes the socket and removes its file, unless another one is in its place."""
        self.sock.close()
        if self._made:
            with contextlib.suppress(OSError):
                if self._made.stat().st_ino == self._inode:
                    self._made.unlink()


def inherited(environ: MutableMapping[str, str]) -> Listener | None:
    """The Unix stream socket that systemd has passed, if any. The variables are removed, so that no child uses them."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = int(environ.get("LISTEN_FDS") or 0)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    for fd in range(_FIRST_FD, _FIRST_FD + count):
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if (sock.family, sock.type) == (socket.AF_UNIX, socket.SOCK_STREAM):
            return Listener(sock)
        sock.detach()
        log.warning("inherited file descriptor %d is not a Unix stream socket; it is ignored", fd)
    return None


def open_socket(path: Path, environ: MutableMapping[str, str] | None = None) -> Listener:
    """The control socket: the inherited one, else a new one at `path`, mode 0660, group `trafficmon` if it exists.

    Replaces the file of a daemon that has died. Raises ControlError if a daemon listens there, or there is no socket.
    """
    activated = inherited(os.environ if environ is None else environ)
    if activated:
        return activated
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _clear_stale(path)
        sock.bind(str(path))
        # Nobody can connect before listen(), so the mode is set in time.
        if (gid := peers.group_id(peers.READ_GROUP)) is not None:
            try:
                os.chown(path, -1, gid)
            except OSError as error:
                log.warning("cannot give %s to group %s: %s", path, peers.READ_GROUP, error.strerror)
        path.chmod(0o660)
        sock.listen(_BACKLOG)
        return Listener(sock, path)
    except OSError as error:
        sock.close()
        hint = "run as root (or: sudo systemctl start trafficmond), or choose another control_socket"
        raise ControlError(f"cannot listen on {path}: {error.strerror or error}", hint=hint) from error
    except ControlError:
        sock.close()
        raise


def _clear_stale(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} exists and is not a socket", hint="move it away or choose another control_socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                path.unlink(missing_ok=True)
                log.info("removed %s, left behind by a daemon that is gone", path)
                return
            # EAGAIN: the backlog is full, so a daemon listens there.
            raise _in_use(path, "") from error
        raise _in_use(path, f" by process {peers.peer_of(probe).caller.pid}")


def _in_use(path: Path, by: str) -> ControlError:
    hint = "stop the other daemon, or give this one another control_socket"
    return ControlError(f"{path}: socket already in use{by}", hint=hint)
