"""A command as a target: it gets a message as JSON on standard input."""

import json
import os
import select
import signal
import subprocess
import tempfile
import time

from trafficmond.notifier.message import Message
from trafficmond.urls import hidden

COMMAND_S = 60.0  # the longest that a command may run
_ERROR_CHARS = 300  # the longest text of an error
_STDERR_BYTES = 4096  # how much of the end of a command's standard error is kept


class Undelivered(Exception):
    """A target did not accept a message. The text gives the reason in printable characters, without the address.
    `wait_s`: how long the server asked to wait."""

    def __init__(self, why: str, wait_s: float = 0.0) -> None:
        self.wait_s = wait_s
        shown = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in why)
        super().__init__(shown[:_ERROR_CHARS].rstrip(": "))


class Command:
    """A program of the administrator. Its exit status 0 means that the message was delivered."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def deliver(self, message: Message) -> None:
        """Runs the program. Processes that it leaves in the background continue. Raises Undelivered."""
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
                stderr = _stderr_of(process, time.monotonic() + COMMAND_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its children as well
                raise Undelivered(f"the command did not end within {COMMAND_S:.0f} s") from None
        if process.returncode:
            last = stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise Undelivered(f"the command ended with {process.returncode}: {self._hidden(last)}")

    def _hidden(self, text: str) -> str:
        """`text` without the arguments that may be secrets: URLs and words, but not options and paths."""
        for argument in self._command[1:]:
            value = argument.partition("=")[2] if argument.startswith("-") else argument
            if not value.startswith("/"):
                text = hidden(text, value if "://" in value else f"://{value}")
        return text


def _stderr_of(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Waits for the end of a process and returns the end of its standard error. Raises TimeoutExpired."""
    assert process.stderr is not None
    text, open_ = b"", True
    while process.poll() is None or open_:
        left = deadline - time.monotonic()
        if process.returncode is None and left <= 0:
            raise subprocess.TimeoutExpired(process.args, COMMAND_S)
        # A process in the background may keep it open.
        wait = min(left, 0.05) if process.returncode is None else 0.0
        if open_ and select.select([process.stderr], [], [], wait)[0]:
            part = os.read(process.stderr.fileno(), 1 << 16)
            text, open_ = (text + part)[-_STDERR_BYTES:], bool(part)
        elif process.returncode is not None:
            break
        elif not open_:
            process.wait(left)
    return text
