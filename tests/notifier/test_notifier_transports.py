"""Real deliveries: a webhook, ntfy and mail through Apprise; what fails says why and gives nothing away."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from notifier_targets import HttpTarget, SmtpTarget, threat

from trafficmond.errors import ConfigError
from trafficmond.notifier import transports as services
from trafficmond.notifier.command import Undelivered
from trafficmond.notifier.message import compose, trial_message
from trafficmond.notifier.news import News
from trafficmond.notifier.settings import Settings, Target, load
from trafficmond.notifier.transports import Transport, transports
from trafficmond.urls import hidden

MESSAGE = compose("web1", [News(1, 0.0, "opened", threat())])
apprise = pytest.mark.skipif(
    importlib.util.find_spec("apprise") is None, reason="needs Apprise: apt-get install apprise"
)


def transport(**target: object) -> Transport:
    return transports(Settings(targets=(Target(name="it", **target),)), "notify.toml")["it"]  # type: ignore[arg-type]


@contextlib.contextmanager
def talking(head: bytes, part: bytes, pause_s: float) -> Iterator[int]:
    """The port of a server that says `head` to whoever sends or waits, then `part` for ever if there is one."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    if head.startswith(b"HTTP") or not head:
                        connection.recv(1 << 16)
                    connection.sendall(head)
                    while part:
                        connection.sendall(part)
                        time.sleep(pause_s)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(1 << 16):
                        pass

        threading.Thread(target=answer, daemon=True).start()
        yield server.getsockname()[1]


@apprise
def test_a_webhook(http: HttpTarget) -> None:
    transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)
    assert http.got[0]["path"] == "/hook"
    assert http.got[0]["title"] == "web1: high port_scan"
    assert http.got[0]["type"] == "failure"
    assert "203.0.113.1 tried 250 ports of 192.0.2.10\n" in http.got[0]["message"]


@apprise
def test_ntfy(http: HttpTarget) -> None:
    transport(url=f"ntfy://127.0.0.1:{http.port}/alarms").deliver(MESSAGE)
    assert (http.got[0]["topic"], http.got[0]["title"]) == ("alarms", "web1: high port_scan")
    assert "tried 250 ports" in http.got[0]["message"]


@apprise
def test_mail() -> None:
    with SmtpTarget() as smtp:
        url = f"mailto://me:word@127.0.0.1:{smtp.port}?from=web1@host.example&to=you@host.example&format=text"
        transport(url=url).deliver(trial_message("web1"))
    assert smtp.mails[0]["Subject"] == "web1: test of trafficmon's notifications"
    assert "you@host.example" in smtp.mails[0]["To"]
    body = smtp.mails[0].get_body(("plain",))
    assert body is not None
    assert "This is a test." in body.get_content()


@apprise
def test_greylisting_is_a_reason_to_try_again() -> None:
    with SmtpTarget(later=1) as smtp:
        mail = transport(url=f"mailto://me:word@127.0.0.1:{smtp.port}?from=web1@host.example&to=you@host.example")
        with pytest.raises(Undelivered):
            mail.deliver(MESSAGE)
        assert not smtp.mails
        mail.deliver(MESSAGE)
    assert len(smtp.mails) == 1


@apprise
def test_a_target_that_refuses_says_so_and_nothing_of_its_address(http: HttpTarget) -> None:
    http.status = 503
    with pytest.raises(Undelivered, match="503") as refused:
        transport(url=f"json://someone:secretword@127.0.0.1:{http.port}/T0KENT0KEN?key=AnotherOne").deliver(MESSAGE)
    for secret in ("someone", "secretword", "T0KEN", "AnotherOne", str(http.port)):
        assert secret not in str(refused.value)


@apprise
def test_a_target_that_is_down_says_so() -> None:
    with pytest.raises(Undelivered, match=r"^Connection refused; A Connection error"):
        transport(url="json://127.0.0.1:9/hook").deliver(MESSAGE)


@apprise
@pytest.mark.parametrize("status", [301, 302])
def test_a_redirect_that_leaves_the_message_behind_is_no_delivery(http: HttpTarget, status: int) -> None:
    http.status, http.location = status, "/T0KENT0KEN"
    with pytest.raises(Undelivered, match=r"its server has moved .*set the new url") as refused:
        transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)
    assert "T0KEN" not in str(refused.value)


@apprise
@pytest.mark.parametrize(
    ("later", "least", "most"),
    [
        ("120", 120, 120),
        ("in 90 s", 0, 0),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True), 500, 600),
        ("Fri, 31 Dec 1999 23:59:59 GMT", -1e10, 0),
        ("9" * 400, 1e300, float("inf")),
        ("-5", 0, 0),
        ("", 0, 0),
    ],
    ids=["seconds", "words", "date", "past", "absurd", "negative", "none"],
)
def test_how_long_a_server_asks_to_wait(
    http: HttpTarget, later: str | Callable[[], str], least: float, most: float
) -> None:
    target = transport(url=f"json://127.0.0.1:{http.port}/hook")
    for http.status in (429, 503):
        http.later = later if isinstance(later, str) else later()
        with pytest.raises(Undelivered) as refused:
            target.deliver(MESSAGE)
        assert least <= refused.value.wait_s <= most
    http.status = 500  # where it means nothing, and what the last reply said is forgotten
    with pytest.raises(Undelivered) as refused:
        target.deliver(MESSAGE)
    assert refused.value.wait_s == 0


@apprise
def test_a_redirect_that_takes_it_along_is_one(http: HttpTarget) -> None:
    http.status, http.location = 307, "/other"
    transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)
    assert [each["path"] for each in http.got] == ["/other"]
    http.status = 303  # it was taken, and here is what became of it
    transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)


@apprise
def test_a_slow_service_gets_a_message_once(http: HttpTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    """Apprise's own patience, four seconds, would be over, and the service have taken it."""
    monkeypatch.setattr("apprise.URLBase.socket_read_timeout", 0.3)
    http.delay_s = 0.8
    transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)
    assert len(http.got) == 1
    monkeypatch.setattr(services, "_ANSWER_S", 0.3)
    with pytest.raises(Undelivered):
        transport(url=f"json://127.0.0.1:{http.port}/hook").deliver(MESSAGE)


@apprise
@pytest.mark.parametrize(
    ("head", "part", "pause_s"),
    [
        (b"Content-Length: 100000\r\n\r\n", b"x", 0.05),
        (b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.05),
        (b"\r\n", b"x" * (1 << 16), 0.0),
    ],
    ids=["drips", "drips in chunks", "floods"],
)
def test_an_answer_that_never_ends_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, head: bytes, part: bytes, pause_s: float
) -> None:
    """Read to its end, it took all the memory that the unit may have, or held up the target for ever."""
    monkeypatch.setattr(services, "_ANSWER_S", 0.5)
    with talking(b"HTTP/1.1 200 OK\r\n" + head, part, pause_s) as port:
        target = transport(url=f"json://127.0.0.1:{port}/hook")
        tracemalloc.start()
        try:
            target.deliver(MESSAGE)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 10 << 20


@apprise
@pytest.mark.parametrize(
    ("url", "head", "part"),
    [
        ("json://127.0.0.1:{port}/hook", b"HTTP/1.1 200 OK\r\nX: ", b"x"),
        ("json://127.0.0.1:{port}/hook", b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        ("mailto://127.0.0.1:{port}?from=a@b.example&to=c@d.example", b"220 x\r\n", b"250-x\r\n"),
    ],
    ids=["a header", "headers", "mail"],
)
def test_a_server_that_never_comes_to_the_point_is_given_up(
    monkeypatch: pytest.MonkeyPatch, url: str, head: bytes, part: bytes
) -> None:
    """Each byte was in time, so the target got nothing more, without an error in sight."""
    monkeypatch.setattr(services, "_ANSWER_S", 0.3)
    began = time.monotonic()
    with talking(head, part, 0.05) as port, pytest.raises(Undelivered):
        transport(url=url.format(port=port)).deliver(MESSAGE)
    assert time.monotonic() - began < 10


@apprise
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 50\r\n\r\ncut",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\ncut",
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\ncut",
    ],
    ids=["cut off", "chunks cut off", "compressed badly"],
)
def test_what_comes_after_its_status_does_not_matter(head: bytes) -> None:
    """A message that the server took was sent again and again, since the text of its answer could not be read."""
    with talking(b"HTTP/1.1 200 OK\r\n" + head, b"", 0) as port:
        transport(url=f"json://127.0.0.1:{port}/hook").deliver(MESSAGE)


@apprise
def test_a_text_that_is_too_long_for_a_service_comes_in_parts(
    http: HttpTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apprise.NotifyBase.request_rate_per_sec", 0)  # seconds that Apprise waits between them
    lines = "\n".join(f"line {number} " + 150 * "x" for number in range(30))
    transport(url=f"mmost://127.0.0.1:{http.port}/{24 * 'a'}").deliver(replace(MESSAGE, text=lines))
    parts = [each["text"] for each in http.got]
    assert len(parts) == 2
    assert all(len(each) <= 4000 for each in parts)
    assert all(f"line {number} x" in "".join(parts).replace("\n", "") for number in range(30))


@apprise
def test_each_recipient_in_a_url_is_a_target_of_its_own(http: HttpTarget) -> None:
    """With one that refuses, Apprise would send to all of them again and again."""
    ntfy = Target(name="it", url=f"ntfy://127.0.0.1:{http.port}/alarms/pager")
    with SmtpTarget() as smtp:
        mail = f"mailto://me:word@127.0.0.1:{smtp.port}?from=web1@host.example&to=you@host.example,he@host.example"
        found = transports(Settings(targets=(ntfy, Target(name="mail", url=mail))), "notify.toml")
        assert list(found) == ["it", "it/2", "mail", "mail/2"]
        for each in found.values():
            each.deliver(MESSAGE)
    assert sorted(each["topic"] for each in http.got) == ["alarms", "pager"]
    assert sorted(str(each["To"]) for each in smtp.mails) == ["he@host.example", "you@host.example"]


@apprise
def test_targets_by_recipient_are_bounded_and_have_names_of_their_own() -> None:
    """Each has a thread; of two with one name, one would get nothing."""
    many, more = (
        "mailto://me:word@host.example?to=" + ",".join(f"a{n}@host.example" for n in range(count))
        for count in (20, 200)
    )
    for urls, targets in (([many], 20), ([more], 1), ([many, many], 21), ([more, many], 21), ([many] * 16, 16)):
        chosen = tuple(Target(name=f"to{number}", url=url) for number, url in enumerate(urls))
        assert len(transports(Settings(targets=chosen), "notify.toml")) == targets
    both = [Target(name="it", url="ntfy://host.example/a/b"), Target(name="it/2", url="ntfy://host.example/c")]
    for pair in (both, both[::-1]):
        with pytest.raises(ConfigError, match="another target is called it/2, too"):
            transports(Settings(targets=tuple(pair)), "notify.toml")


@apprise
def test_recipients_of_all_kinds_are_told_apart() -> None:
    url = "rocket://user:password@host/%23a/%23b/@u"
    found = transports(Settings(targets=(Target(name="it", url=url),)), "notify.toml")
    plugins: list[Any] = [next(iter(each._service)) for each in found.values()]  # type: ignore[attr-defined]
    assert sorted((tuple(each.channels), tuple(each.rooms), tuple(each.users)) for each in plugins) == [
        ((), (), ("u",)),
        (("a",), (), ()),
        (("b",), (), ()),
    ]


@apprise
def test_a_service_that_nobody_knows_is_refused_without_its_address() -> None:
    with pytest.raises(ConfigError, match=r"target\[0\].url: ") as refused:
        transport(url="nonsense://secretword/T0KEN")
    assert "secretword" not in str(refused.value)
    assert "T0KEN" not in str(refused.value)


def test_without_apprise_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match="apt install apprise"):
        transport(url="json://127.0.0.1")


@pytest.mark.parametrize(
    ("url", "said", "shown"),
    [
        ("tgram://123456:AbCdEf/-987", "bad token 123456:ABCDEF for -987", "bad token ***:*** for ***"),
        ("json://h/ab/cde?x=yz", "h ab cde yz", "h ab *** yz"),
        ("mailto://me:p%40ss@example.org", "EXAMPLE.ORG said no", "*** said no"),
        ("mailto://me:p%40ss%2Bw%3Ard@example.org", "535 bad p@ss+w:rd (p%40ss%2Bw%3Ard)", "535 bad *** (***)"),
    ],
)
def test_parts_of_an_address_are_hidden(url: str, said: str, shown: str) -> None:
    assert hidden(said, url) == shown


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "target: is missing"),
        ("[[target]]", "url: is missing; write url for a service, or command"),
        ('[[target]]\nurl = "json://x"\ncommand = ["/x"]', "are both set; remove one of them"),
        ('[[target]]\nurl = "secretword"', "url: is not a valid URL, for example"),
        ('[[target]]\ncommand = ["told"]', "write the absolute path, for example /usr/local/bin/on-threat"),
        ('min_severity = "huge"\n[[target]]\nurl = "json://x"', 'notify.toml:1: min_severity: "huge" is not one of'),
        ('[[target]]\nname = "a"\nurl = "json://x"\n[[target]]\nname = "a"\nurl = "json://y"', "called a, too"),
        ("[[target]]\nurl = 'json://x'\n" * 17, "there are 17 targets; the maximum is 16"),
        ("[[target", "is not TOML"),
        ('[[target]]\nulr = "json://secretword"', "no such setting; did you mean url?"),
    ],
)
def test_mistakes_are_reported_with_their_place_and_without_addresses(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as refused:
        load(path)
    reported = "\n".join(map(str, refused.value.mistakes))
    assert wrong in reported
    assert "secretword" not in reported


def test_targets_have_names(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_text('[[target]]\nurl = "tgram://token/chat"\n[[target]]\ncommand = ["/x"]\nname = "pager"\n')
    assert [name for name, _ in load(path).named()] == ["1-tgram", "pager"]
    with pytest.raises(ConfigError, match="install -m 600"):
        load(tmp_path / "missing.toml")
