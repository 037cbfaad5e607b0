"""The service that systemd starts for a socket unit, from the units' files: systemd opens the socket for it."""

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

# The folders of systemd's units, the first before the others.
FOLDERS = tuple(
    Path(each)
    for each in ("/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/lib/systemd/system")
)


def service_of(socket: str, folders: Iterable[Path] = FOLDERS) -> str:
    """The service of "ssh.socket": by default "ssh.service"; "ssh@.service" if each connection has its own."""
    name = socket.removesuffix(".socket")
    service, each = "", False
    for line in _lines(socket, tuple(folders)):
        key, _, value = (word.strip() for word in line.partition("="))
        if key == "Service":
            service = value
        elif key == "Accept":
            each = value.lower() in ("yes", "true", "on", "1")
    return service.replace("%i", name.partition("@")[2]) or (f"{name}@.service" if each else f"{name}.service")


def _lines(socket: str, folders: tuple[Path, ...]) -> Iterator[str]:
    """The lines of the unit's file and then of its drop-ins; later lines win."""
    template = f"{socket.partition('@')[0]}@.socket"
    files = [folder / name for name in dict.fromkeys((socket, template)) for folder in folders]
    main = next((file for file in files if file.is_file()), None)
    dropped = {file.name: file for folder in reversed(folders) for file in (folder / f"{socket}.d").glob("*.conf")}
    for file in ([main] if main else []) + [dropped[name] for name in sorted(dropped)]:
        with contextlib.suppress(OSError):
            yield from file.read_text(errors="replace").splitlines()
