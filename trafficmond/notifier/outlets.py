"""The ways out: a service that Apprise knows, or a command. Neither lets a secret of its target into a message."""

from __future__ import annotations

import importlib
import logging
import threading
from http import HTTPStatus
from typing import Any, Protocol

from trafficmond.errors import ConfigError, Mistake
from trafficmond.notifier.command import Command, Undelivered
from trafficmond.notifier.message import Message
from trafficmond.notifier.settings import Settings, Target
from trafficmond.urls import hidden

_ANSWER_S = 30.0  # Apprise's own patience of 4 s has a slow service get the same message over and over


class Outlet(Protocol):
    """Carries messages to one target."""

    def deliver(self, message: Message) -> None:
        """Raises Undelivered."""
        ...


class Apprise:
    """A service by its URL, through Debian's `apprise`."""

    def __init__(self, url: str, module: Any) -> None:
        """Raises ValueError if Apprise does not know such a service."""
        self._module, self._url = module, url
        self._service = module.Apprise(asset=module.AppriseAsset(async_mode=False))  # in the thread that asks
        with _AppriseLog() as log_lines:
            known = self._service.add(url)
        if not known:
            raise ValueError(hidden(log_lines.first, url) or "is not a service that Apprise knows, or lacks a part")
        for each in self._service:
            if "rto=" not in url:
                each.socket_read_timeout = _ANSWER_S
            if "overflow=" not in url:
                each.overflow_mode = "split"  # a text that is too long for the service would be refused for ever

    def deliver(self, message: Message) -> None:
        """Send it. Raises Undelivered."""
        with _AppriseLog() as log_lines:
            try:
                done = self._service.notify(
                    title=message.title, body=message.text, notify_type=message.level, body_format="text"
                )
            except Exception as error:  # noqa: BLE001 - a hundred plug-ins of others: none may end the thread
                raise Undelivered(hidden(f"{type(error).__name__}: {error}", self._url)) from None
        if not done:
            why = hidden(log_lines.why() or _told_by(done), self._url)
            raise Undelivered(why or "the service did not accept it")


def outlets(settings: Settings, where: str) -> dict[str, Outlet]:
    """Each target's way out, by its name. Raises ConfigError with every target that has none."""
    found: dict[str, Outlet] = {}
    mistakes: list[Mistake] = []
    module = _load_apprise(where) if any(target.url for target in settings.targets) else None
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


def _load_apprise(where: str) -> Any:
    try:
        import apprise
    except ImportError:
        what = "a target has a url, which needs the package apprise"
        raise ConfigError([Mistake(where, what)], hint="install it: apt install apprise; or use command") from None
    quiet = logging.getLogger("apprise")  # it may name a target's address: nothing of it goes to the journal
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    _keep_what_is_redirected()
    return apprise


def _keep_what_is_redirected() -> None:
    """Has a redirect that makes a GET of a POST fail: the message would be left behind, and be taken for delivered.
    303 says that it was taken."""
    requests: Any = importlib.import_module("requests")
    usual = requests.Session.rebuild_method

    def rebuild(self: Any, prepared: Any, response: Any) -> None:
        before = prepared.method
        usual(self, prepared, response)
        if prepared.method != before and response.status_code != HTTPStatus.SEE_OTHER:
            logging.getLogger("apprise").warning("its server has moved (%d): write the new URL", response.status_code)
            raise requests.TooManyRedirects(response=response)

    requests.Session.rebuild_method = rebuild


def _told_by(result: Any) -> str:
    """What newer versions of Apprise keep of a delivery, which they make in a thread of their own."""
    entries = list(getattr(result, "logs", list)())
    return str(entries[-1].message) if entries else ""


class _AppriseLog(logging.Handler):
    """What Apprise says while it works in this thread: its answers are only yes and no."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = self.last = ""
        self._thread = threading.get_ident()
        self._logger = logging.getLogger("apprise")

    def __enter__(self) -> _AppriseLog:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first and the latest."""
        if record.thread == self._thread:
            self.last = record.getMessage()
            self.first = self.first or self.last

    def why(self) -> str:
        """Both, where they differ."""
        return "; ".join(dict.fromkeys(each for each in (self.first, self.last) if each))
