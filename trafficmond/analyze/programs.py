"""Unpacks files while they are read, with the program for their compression, and journal files with journalctl."""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from pathlib import Path
from typing import IO, BinaryIO

from trafficmond.analyze.unpack import CorruptStream

_PART = 1 << 16
_SHOWN = 120
_BEFORE = re.compile(r"\S+: (?:\(stdin\): )?")  # the program's name


def unpacked(file: BinaryIO, name: str) -> Program | None:
    """The content of a compressed file, which may be a pipe; None if the program is not installed."""
    program = shutil.which(name)
    return Program([program, "-dcq"], file) if program else None


def journal(path: str) -> Program | None:
    """The entries of a journal file as JSON lines; None if journalctl is not installed or there is no path."""
    program = shutil.which("journalctl")
    return Program([program, "--quiet", "--output=json", f"--file={path}"]) if program and path != "-" else None


class Program:
    """Reads the output of a program, which gets `file` on standard input, or reads a file named in its command."""

    def __init__(self, command: list[str], file: BinaryIO | None = None) -> None:
        fed = subprocess.PIPE if file else subprocess.DEVNULL
        self._child = subprocess.Popen(command, stdin=fed, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._child.stdout is not None
        assert self._child.stderr is not None
        self._name, self._out, self._stderr = Path(command[0]).name, self._child.stdout, b""
        self._listener = threading.Thread(target=self._listen, args=(self._child.stderr,), daemon=True)
        self._threads = [self._listener]
        if file and self._child.stdin:
            self._threads.append(threading.Thread(target=_pump, args=(file, self._child.stdin), daemon=True))
        for thread in self._threads:
            thread.start()

    def read(self, size: int) -> bytes:
        data = self._out.read(size)
        if data or self._child.returncode is not None:
            return data
        status = self._child.wait()
        self._listener.join()
        if status:
            raise CorruptStream(_reason(self._stderr) or f"{self._name} failed")
        return b""

    def close(self) -> None:
        self._child.kill()
        self._child.wait()
        for thread in self._threads:
            thread.join(1)  # one may wait for a pipe that nobody writes to
        self._out.close()

    def _listen(self, stream: IO[bytes]) -> None:
        with stream:
            while part := stream.read(_PART):
                self._stderr = (self._stderr + part)[:_PART]


def _pump(file: BinaryIO, into: IO[bytes]) -> None:
    try:
        while part := file.read(_PART):
            into.write(part)
    except (OSError, ValueError):  # the program ended, or the file was closed: read() reports why
        pass
    finally:
        with contextlib.suppress(OSError):
            into.close()


def _reason(output: bytes) -> str:
    text = output.decode("utf-8", "replace").strip().split("\n")[-1]
    return _BEFORE.sub("", text).replace("/*stdin*\\", "").strip(" :")[:_SHOWN]
