"""The ways out: a service that Apprise knows, or a command. Neither lets a secret of its target into a message."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
from typing import Any, Protocol

from trafficmond.errors import ConfigError, Mistake
from trafficmond.notifier.message import Message
from trafficmond.notifier.settings import Settings, Target
from trafficmond.urls import hidden

COMMAND_S = 60.0  # that a command may take
_TOLD_CHARS = 300  # of what went wrong


class Undelivered(Exception):
    """A target did not take a message; says why, without the target's address."""


class Outlet(Protocol):
    """Carries messages to one target."""

    def deliver(self, message: Message) -> None:
        """Raises Undelivered."""
        ...


class Command:
    """A program of the administrator's: JSON on standard input, status 0 for done."""

    def __init__(self, command: tuple[str, ...]) -> None:
        self._command = command

    def deliver(self, message: Message) -> None:
        """Run it. Raises Undelivered."""
        given = json.dumps(message.data) + "\n"
        try:
            done = subprocess.run(
                self._command,
                input=given.encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=COMMAND_S,
            )
        except subprocess.TimeoutExpired:
            raise Undelivered(f"the command did not end within {COMMAND_S:.0f} s") from None
        except OSError as error:
            raise Undelivered(f"the command cannot be run: {error.strerror}") from None
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise Undelivered(f"the command ended with {done.returncode}: {said}"[:_TOLD_CHARS].rstrip(": "))


class Apprise:
    """A service by its URL, through Debian's `apprise`."""

    def __init__(self, url: str, module: Any) -> None:
        """Raises ValueError if Apprise does not know such a service."""
        self._module, self._url = module, url
        self._service = module.Apprise(asset=module.AppriseAsset(async_mode=False))  # in the thread that asks
        with _Heard() as heard:
            known = self._service.add(url)
        if not known:
            raise ValueError(hidden(heard.first, url) or "is not a service that Apprise knows, or lacks a part")

    def deliver(self, message: Message) -> None:
        """Send it. Raises Undelivered."""
        with _Heard() as heard:
            try:
                done = self._service.notify(
                    title=message.title, body=message.text, notify_type=message.level, body_format="text"
                )
            except Exception as error:  # noqa: BLE001 - a hundred plug-ins of others: none may end the thread
                raise Undelivered(hidden(f"{type(error).__name__}: {error}", self._url)[:_TOLD_CHARS]) from None
        if not done:
            raise Undelivered(
                hidden(heard.last or _told_by(done), self._url)[:_TOLD_CHARS] or "the service did not take it"
            )


def outlets(settings: Settings, where: str) -> dict[str, Outlet]:
    """Each target's way out, by its name. Raises ConfigError with every target that has none."""
    found: dict[str, Outlet] = {}
    mistakes: list[Mistake] = []
    module = _apprise(where) if any(target.url for target in settings.targets) else None
    for index, (name, target) in enumerate(settings.named()):
        try:
            found[name] = _outlet(target, module)
        except ValueError as error:
            mistakes.append(Mistake(where, f"target[{index}].url: {error}"))
    if mistakes:
        raise ConfigError(mistakes, hint="the services and how they are written: man apprise, or apprise's wiki")
    return found


def _outlet(target: Target, module: Any) -> Outlet:
    return Command(target.command) if target.command else Apprise(target.url, module)


def _apprise(where: str) -> Any:
    try:
        import apprise
    except ImportError:
        what = "a target has a url, which takes the package apprise"
        raise ConfigError([Mistake(where, what)], hint="install it: apt install apprise; or use command") from None
    quiet = logging.getLogger("apprise")  # it may name a target's address: nothing of it goes to the journal
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    return apprise


def _told_by(result: Any) -> str:
    """What newer versions of Apprise keep of a delivery, which they make in a thread of their own."""
    entries = list(getattr(result, "logs", list)())
    return str(entries[-1].message) if entries else ""


class _Heard(logging.Handler):
    """What Apprise says while it works in this thread: its answers are only yes and no."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = self.last = ""
        self._thread = threading.get_ident()
        self._logger = logging.getLogger("apprise")

    def __enter__(self) -> _Heard:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first and the latest."""
        if record.thread == self._thread:
            self.last = record.getMessage()
            self.first = self.first or self.last
