"""Files of the daemon's own: replaced atomically, and opened without waiting for what is not a file. What a path is."""

import contextlib
import errno
import os
import stat
from pathlib import Path

from trafficmond.errors import TrafficmonError

UNFINISHED = ".tmp"  # suffix of unfinished files; they begin with a dot, and readers of folders ignore them


def replace(
    path: Path, data: bytes, *, mode: int | None = None, modified_ns: int | None = None, durable: bool = False
) -> None:
    """Writes `data` to a temporary file and renames it to `path`. Raises OSError; the file is then unchanged.
    `durable`: it is on the disk, under its name, when this returns."""
    if not path.name:  # / or .
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    fresh = path.with_name(f".{path.name}{UNFINISHED}"[-255:])
    try:
        with fresh.open("wb") as file:
            file.write(data)
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if modified_ns is not None:
            os.utime(fresh, ns=(modified_ns, modified_ns))
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write(path: Path, text: str, *, mode: int | None = None) -> None:
    """Writes a file that the user named, completely or not at all. Raises TrafficmonError, with what to do."""
    try:
        replace(path, text.encode(), mode=mode)
    except OSError as error:
        hint = "name a file in a folder that you may write to"
        raise TrafficmonError(f"cannot write {path}: {error.strerror}", hint=hint) from error


def opened(path: Path, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Opens a regular file. Raises OSError, also for a pipe or a device in its place, which could block for ever."""
    # A link to a terminal must not become ours.
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, mode)
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read(path: Path, most: int = 512 << 20) -> bytes:
    """The content of a regular file of up to `most` bytes. Raises OSError."""
    with open(opened(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"it is larger than {most >> 20} MiB", str(path))
        return file.read()


def append(path: Path, text: str) -> int:
    """Appends ASCII text durably to a regular file; returns the new size. Raises OSError: then nothing was appended."""
    with open(opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab", buffering=0) as file:
        before, rest = os.fstat(file.fileno()).st_size, text.encode("ascii")
        try:
            while rest:  # a full disk may take a part
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
        return file.tell()


def is_there(path: Path) -> bool:
    """Whether anything is at `path`: also a broken link, or what this user may not look up."""
    try:
        path.lstat()
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file that can be seen. Path.is_file() raises PermissionError, or for long names."""
    return stat.S_ISREG(mode(path))


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder that can be seen."""
    return stat.S_ISDIR(mode(path))


def mode(path: Path) -> int:
    """The kind and the permissions of what is at `path` (st_mode), links followed; 0 if nothing can be seen there."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def sync_folder(folder: Path) -> None:
    """Syncs a folder's names to the disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def on_bpffs(folder: Path, mounts: Path = Path("/proc/mounts")) -> bool:
    """Whether a folder is, or would be, on a BPF file system."""
    lines = map(str.split, mounts.read_text("utf-8", "replace").splitlines() if mounts.exists() else ())
    return any(folder.is_relative_to(line[1]) for line in lines if line[2] == "bpf")
