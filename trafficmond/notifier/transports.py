"""Transports: a service that Apprise supports, or a command. Error texts hold no secret of the target."""

import contextlib
import copy
import importlib
import itertools
import logging
import socket
import threading
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Protocol, Self

from trafficmond.errors import ConfigError, Mistake
from trafficmond.notifier.command import Command, Undelivered
from trafficmond.notifier.message import Message
from trafficmond.notifier.settings import Settings
from trafficmond.urls import hidden

_MOST = 32  # transports: each has a thread, and the unit allows 64 with the commands
_ANSWER_BYTES = 1 << 16  # read of an answer
_ANSWER_S = 30.0  # with Apprise's timeout of 4 s a slow service gets the same message again and again
# The recipients in a URL, as Apprise's plug-ins call them.
_RECIPIENTS = (
    *("targets", "topics", "channels", "rooms", "users", "groups", "devices", "phone", "channel_ids", "subreddits"),
    *("target_phones", "target_groups", "target_contacts"),
)

_reply = threading.local()  # wait_s: how long the last server asked this thread to wait


class Transport(Protocol):
    def deliver(self, message: Message) -> None:
        """Delivers a message. Raises Undelivered."""
        ...


class Apprise:
    """A service by its URL, through Debian's `apprise`."""

    def __init__(self, plugin: Any, url: str, module: Any) -> None:
        self._url = url
        self._service = module.Apprise(asset=module.AppriseAsset(async_mode=False))  # delivers in this thread
        self._service.add(plugin)
        if "rto=" not in url:
            plugin.socket_read_timeout = _ANSWER_S
        if "overflow=" not in url:
            plugin.overflow_mode = "split"  # otherwise the service refuses a long text each time it is sent

    def deliver(self, message: Message) -> None:
        _reply.wait_s = 0.0
        with _AppriseLog() as log_lines:
            try:
                done = self._service.notify(
                    title=message.title, body=message.text, notify_type=message.level, body_format="text"
                )
            except Exception as error:  # noqa: BLE001 - none of Apprise's many plug-ins may end the thread
                raise Undelivered(hidden(f"{type(error).__name__}: {error}", self._url)) from None
        if not done:
            entries = list(getattr(done, "logs", list)())  # of newer versions, which make them in a thread of their own
            why = hidden(log_lines.why() or (str(entries[-1].message) if entries else ""), self._url)
            raise Undelivered(why or "the service did not accept it", _reply.wait_s)


def _services(url: str, module: Any, room: int) -> list[Transport]:
    """A transport for each recipient in a URL, up to `room`: if one of several failed, Apprise would send to all again.
    Raises ValueError if Apprise does not know such a service."""
    with _AppriseLog() as log_lines:
        plugin = module.Apprise.instantiate(url, asset=module.AppriseAsset(async_mode=False))
    if plugin is None:
        raise ValueError(hidden(log_lines.first, url) or "is not a service that Apprise knows, or lacks a part")
    named = {name: each for name in _RECIPIENTS if isinstance(each := getattr(plugin, name, None), (list, set, tuple))}
    if not 1 < sum(map(len, named.values())) <= room:
        return [Apprise(plugin, url, module)]
    plugins = []
    for name, recipients in named.items():
        for recipient in recipients:
            plugins.append(copy.copy(plugin))
            for other, kind in named.items():
                setattr(plugins[-1], other, type(kind)([recipient] if other == name else []))
    return [Apprise(each, url, module) for each in plugins]


def transports(settings: Settings, where: str) -> dict[str, Transport]:
    """The transports by target's name, numbered for further recipients. Raises ConfigError with all wrong URLs."""
    found: dict[str, Transport] = {}
    mistakes: list[Mistake] = []
    module = _load_apprise(where) if any(target.url for target in settings.targets) else None
    for index, (name, target) in enumerate(settings.named()):
        room = _MOST - len(found) - len(settings.targets) + index + 1
        try:
            each = [Command(target.command)] if target.command else _services(target.url, module, room)
            named = {f"{name}/{number}" if number > 1 else name: transport for number, transport in enumerate(each, 1)}
            for twice in sorted(named.keys() & found.keys()):
                mistakes.append(Mistake(where, f"target[{index}].name: another target is called {twice}, too"))
            found |= named
        except ValueError as error:
            mistakes.append(Mistake(where, f"target[{index}].url: {error}"))
    if mistakes:
        raise ConfigError(mistakes, hint="see man apprise, or apprise's wiki, for the services and their URLs")
    return found


def _load_apprise(where: str) -> Any:
    try:
        import apprise
    except ImportError:
        what = "a target has a url, which needs the package apprise"
        raise ConfigError([Mistake(where, what)], hint="apt install apprise, or set command, not url") from None
    quiet = logging.getLogger("apprise")  # it may name a target's address: nothing of it goes to the journal
    quiet.propagate = False
    quiet.addHandler(logging.NullHandler())
    _patch_requests()
    return apprise


def _patch_requests() -> None:
    """Notes how long a server asks to wait. Stops reading an answer that does not end. Makes a redirect that turns POST
    into GET an error: the message would be lost, and count as delivered. After status 303 it was delivered."""
    requests: Any = importlib.import_module("requests")
    usual, send = requests.Session.rebuild_method, requests.adapters.HTTPAdapter.send

    def rebuild(self: Any, prepared: Any, response: Any) -> None:
        before = prepared.method
        usual(self, prepared, response)
        if prepared.method != before and response.status_code != HTTPStatus.SEE_OTHER:
            logging.getLogger("apprise").warning("its server has moved (%d): set the new url", response.status_code)
            raise requests.TooManyRedirects(response=response)

    def send_bounded(self: Any, request: Any, **options: Any) -> Any:
        try:
            response = send(self, request, **options)
        except requests.RequestException as error:  # of which Apprise says only that there was one
            root, each = error, error.__context__
            while each:
                root, each = each if isinstance(each, OSError) else root, each.__context__
            logging.getLogger("apprise").warning(getattr(root, "verify_message", "") or root.strerror or str(root))
            raise
        body = bytearray()
        with contextlib.suppress(requests.RequestException):  # its status is what counts
            for part in itertools.islice(response.iter_content(1), _ANSWER_BYTES):
                body += part
        response._content = bytes(body)
        response.close()
        if response.status_code in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            _reply.wait_s = _seconds(response.headers.get("Retry-After", ""))
        return response

    requests.Session.rebuild_method, requests.adapters.HTTPAdapter.send = rebuild, send_bounded
    socket.SocketIO = _Reply  # type: ignore[misc]  # what HTTP and SMTP read from


class _Reply(socket.SocketIO):
    """What a server sends. A timeout is for one read; this limits all of them together."""

    _until = 0.0

    def readinto(self, buffer: Any) -> int | None:
        self._until = self._until or time.monotonic() + 2 * _ANSWER_S
        if time.monotonic() > self._until:
            raise TimeoutError("the server is too slow")
        return super().readinto(buffer)


def _seconds(text: str) -> float:
    """The time of a Retry-After header, which is in seconds or a date; 0 for anything else."""
    try:
        return float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0


class _AppriseLog(logging.Handler):
    """Collects Apprise's log lines of this thread; its return values are only true and false."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = self.last = ""
        self._thread = threading.get_ident()
        self._logger = logging.getLogger("apprise")

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self.last = record.getMessage()
            self.first = self.first or self.last

    def why(self) -> str:
        return "; ".join(dict.fromkeys(each for each in (self.first, self.last) if each))
