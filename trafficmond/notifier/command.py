"""A command as a way out: JSON on its standard input. No secret of its arguments gets into a message."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time

from trafficmond.notifier.message import Message
from trafficmond.urls import hidden

COMMAND_S = 60.0  # that a command may take
_TOLD_CHARS = 300  # of what went wrong
_HEARD_BYTES = 4096  # of what a command says


class Undelivered(Exception):
    """A target did not take a message; says why, without the target's address, in characters that can be shown."""

    def __init__(self, why: str) -> None:
        shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in why)
        super().__init__(shown[:_TOLD_CHARS].rstrip(": "))


class Command:
    """A program of the administrator's: JSON on standard input, status 0 for done."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def deliver(self, message: Message) -> None:
        """Run it. What it leaves behind in the background may go on. Raises Undelivered."""
        with tempfile.TemporaryFile() as given:
            given.write(json.dumps(message.data).encode() + b"\n")
            given.seek(0)
            try:
                process = subprocess.Popen(
                    self._command,
                    stdin=given,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except OSError as error:
                raise Undelivered(f"the command cannot be run: {error.strerror}") from None
        with process:
            try:
                said = _listen(process, time.monotonic() + COMMAND_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # what it waits for as well
                raise Undelivered(f"the command did not end within {COMMAND_S:.0f} s") from None
        if process.returncode:
            last = said.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise Undelivered(f"the command ended with {process.returncode}: {self._hidden(last)}")

    def _hidden(self, text: str) -> str:
        """Without what its arguments may hold of tokens: URLs and words, but not options and paths."""
        for argument in self._command[1:]:
            value = argument.partition("=")[2] if argument.startswith("-") else argument
            if not value.startswith("/"):
                text = hidden(text, value if "://" in value else f"://{value}")
        return text


def _listen(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """The end of what a command says until it is over, however much that is. Raises TimeoutExpired."""
    assert process.stderr is not None
    said, open_ = b"", True
    while process.poll() is None or open_:
        left = deadline - time.monotonic()
        if process.returncode is None and left <= 0:
            raise subprocess.TimeoutExpired(process.args, COMMAND_S)
        # Who was left in the background may hold it open.
        wait = min(left, 0.05) if process.returncode is None else 0.0
        if open_ and select.select([process.stderr], [], [], wait)[0]:
            part = os.read(process.stderr.fileno(), 1 << 16)
            said, open_ = (said + part)[-_HEARD_BYTES:], bool(part)
        elif process.returncode is not None:
            break
        elif not open_:
            process.wait(left)
    return said
