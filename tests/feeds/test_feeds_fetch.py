"""A round: what is due, what is kept, what changes nothing; and what nobody may read."""

from __future__ import annotations

import asyncio
import gzip
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from feed_server import LIST, FeedServer, says
from hypothesis import given
from hypothesis import strategies as st

from trafficmond.config.filtering import PrefixList
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings
from trafficmond.errors import ConfigError, TrafficmonError
from trafficmond.feeds.fetch import fetch
from trafficmond.feeds.http import Answer, FetchError
from trafficmond.feeds.shape import NoList, shape
from trafficmond.feeds.state import STATE_NAME, read
from trafficmond.geo.geoip import EMPTY
from trafficmond.policy.lastgood import LAST_GOOD_NAME
from trafficmond.policy.load import Files
from trafficmond.policy.sources import read_policy
from trafficmond.policy.trial import fingerprint, rule_settings, with_rule_settings
from trafficmond.sources import Sources

ROOT = Path(__file__).parents[2]
T0 = 1_700_000_000.0
DROP = b"""{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}
{"cidr":"2a06:e480::/29","sblid":"SBL1"}
{"type":"metadata","timestamp":1764200000,"size":2,"records":2,"copyright":"(c) 2025 The Spamhaus Project SLU"}
"""
BLOCK = b"""#
#   DShield.org Recommended Block List
#
Start\tEnd\tNetmask\tAttacks\tName\tCountry\temail
80.94.95.0\t80.94.95.255\t24\t4151\tEXAMPLE, RO\tRO\ta@b.example
198.51.100.0\t198.51.100.255\t24\t99\t\t\t
"""


@pytest.fixture
def server() -> Iterator[FeedServer]:
    with FeedServer() as made:
        yield made


@pytest.fixture
def settings(server: FeedServer, tmp_path: Path) -> Settings:
    return with_list(tmp_path, PrefixList(url=server.url(), label="bad", url_allow=("http", "private")))


def with_list(folder: Path, *lists: PrefixList) -> Settings:
    return Settings(feeds_dir=folder, lists=lists, cidr_dir=folder / "cidr.d", state_dir=folder)


def run(settings: Settings, now: float = T0, **more: bool) -> int:
    return fetch(settings, lambda: now, **more)


def test_it_is_fetched_kept_and_asked_for_again_when_due(
    server: FeedServer, settings: Settings, tmp_path: Path
) -> None:
    assert run(settings) == 0
    kept = tmp_path / "bad.netset"
    assert kept.read_bytes() == LIST
    assert kept.stat().st_mode & 0o777 == 0o644
    state = read(tmp_path)["bad"]
    assert (state.prefixes, state.checked, state.changed, state.error) == (3, T0, T0, "")
    before = kept.stat().st_mtime_ns
    run(settings, T0 + 1800)
    assert len(server.asked) == 1  # not due
    run(settings, T0 + 3600)
    assert len(server.asked) == 2
    assert server.asked[1][1]["If-None-Match"]
    state = read(tmp_path)["bad"]
    assert (state.checked, state.changed, kept.stat().st_mtime_ns) == (T0 + 3600, T0, before)
    server.body = LIST + b"192.0.2.1\n"
    run(settings, T0 + 3700, all_of_them=True)
    assert (read(tmp_path)["bad"].prefixes, read(tmp_path)["bad"].changed) == (4, T0 + 3700)


def test_a_server_without_versions_writes_nothing_for_the_same(
    server: FeedServer, settings: Settings, tmp_path: Path
) -> None:
    server.page = says(200, LIST)
    run(settings)
    before = (tmp_path / "bad.netset").stat().st_ino
    run(settings, T0 + 7200)
    assert (tmp_path / "bad.netset").stat().st_ino == before
    assert read(tmp_path)["bad"].changed == T0


@pytest.mark.parametrize(
    ("status", "body", "wrong"),
    [
        (503, b"", "answered 503"),
        (200, b"", "holds no prefix"),
        (200, b"<html><body>\nGone\n</body></html>\n", "of its lines are not prefixes"),
        (200, b"\0" * 100, "not plain text"),
        (200, b"0.0.0.0/0\n" + LIST, "it holds 0.0.0.0/0, a large part"),
        (200, b"8000::/1\n" + LIST, "it holds 8000::/1, a large part"),
        # The same in pieces.
        (200, b"".join(b"%d.0.0.0/8\n" % each for each in range(140)), "are 55% of IPv4 together, a large part"),
        (200, b"".join(b"%x00::/8\n" % each for each in range(0x20, 0x34)), "are 62% of IPv6 together, a large part"),
        (200, gzip.compress(LIST * 1000, mtime=0), "not plain text"),
        (200, b"# nothing today\n", "holds no prefix"),
        (200, b'{"error": "rate limit exceeded"}\n', "of its lines are not prefixes"),
        (200, b"404 not found\n", "of its lines are not prefixes"),
        (200, b"\n" * 1_500_001 + LIST, "has 1,500,005 lines"),
        (200, b"\r" * 1_500_001 + LIST, "has 1,500,001 lines"),
    ],
)
def test_what_cannot_be_used_changes_nothing(
    server: FeedServer, settings: Settings, tmp_path: Path, status: int, body: bytes, wrong: str
) -> None:
    run(settings)
    server.page = says(status, body)
    assert run(settings, T0 + 7200) == 1
    assert run(settings, T0 + 8200) == 1  # what failed is tried with the next round
    assert (tmp_path / "bad.netset").read_bytes() == LIST
    state = read(tmp_path)["bad"]
    assert wrong in state.error
    assert (state.checked, state.failing_since, state.prefixes) == (T0, T0 + 7200, 3)
    server.page = server.serve_list
    assert run(settings, T0 + 9200) == 0
    assert (read(tmp_path)["bad"].error, read(tmp_path)["bad"].failing_since) == ("", 0.0)


def test_another_url_is_another_list(server: FeedServer, settings: Settings, tmp_path: Path) -> None:
    run(settings)
    other = PrefixList(url=server.url("/other"), label="bad", url_allow=("http", "private"))
    run(with_list(tmp_path, other), T0 + 10)
    assert server.asked[-1][0] == "/other"
    assert "If-None-Match" not in server.asked[-1][1]


def test_a_list_that_is_not_wanted_any_more_goes(settings: Settings, tmp_path: Path) -> None:
    run(settings)
    (tmp_path / "mine.netset").write_text("192.0.2.1\n")
    run(with_list(tmp_path), T0 + 10)
    assert not (tmp_path / "bad.netset").exists()
    assert (tmp_path / "mine.netset").exists()  # whose that is is not known here
    assert read(tmp_path) == {}


def test_state_that_cannot_be_read_is_begun_anew(settings: Settings, tmp_path: Path) -> None:
    run(settings)
    for nonsense in ("", "[]", '{"bad": 7}', '{"bad": {"checked": "soon"}}'):
        (tmp_path / STATE_NAME).write_text(nonsense)
        assert run(settings, T0 + 10) == 0
        assert read(tmp_path)["bad"].checked == T0 + 10


def test_a_folder_that_is_not_there_is_said(settings: Settings, tmp_path: Path) -> None:
    from dataclasses import replace

    with pytest.raises(TrafficmonError, match="cannot keep what is fetched"):
        run(replace(settings, feeds_dir=tmp_path / "nowhere"))


def test_slow_lists_keep_no_other_from_its_turn(tmp_path: Path) -> None:
    """systemd ends the process after half an hour: the next one began with the same lists again."""
    lists = [PrefixList(url=f"https://lists.example/{label}", label=label) for label in "abc"]
    asked: list[str] = []

    def ended(url: str, *_: object) -> Answer:
        asked.append(url[-1])
        if len(asked) % 2 == 0:
            raise KeyboardInterrupt
        raise FetchError("it took longer than 300 s")

    for now in (T0, T0 + 1800):
        with pytest.raises(KeyboardInterrupt):
            fetch(with_list(tmp_path, *lists), lambda: now, ask=ended)  # noqa: B023
    assert asked == ["a", "b", "b", "c"]


def test_a_list_that_does_not_fit_on_the_disk_keeps_no_other_from_it(server: FeedServer, tmp_path: Path) -> None:
    server.page = lambda handler: handler.answer(200, LIST * (200 if handler.path == "/big" else 1))
    allow = ("http", "private")
    lists = [PrefixList(url=server.url(f"/{label}"), label=label, url_allow=allow) for label in ("big", "small")]
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, usual[1]))
    try:
        assert run(with_list(tmp_path, *lists)) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert (tmp_path / "small.netset").read_bytes() == LIST
    assert read(tmp_path)["big"].error == "it cannot be stored: File too large"
    assert sorted(each.name for each in tmp_path.iterdir()) == [STATE_NAME, "small.netset"]


def test_no_secret_is_reported(server: FeedServer, tmp_path: Path) -> None:
    """Neither by the process, nor in its files, nor by what shows settings."""
    config = tmp_path / "trafficmond.toml"
    url = server.url("/s3cr3tpath/list?key=T0KENT0KEN").replace("http://", "http://u5er:passw0rd@")
    config.write_text(
        f'feeds_dir = "{tmp_path}"\n[[list]]\nlabel = "bad"\nurl = "{url}"\nurl_allow = ["http", "private"]\n'
    )
    said = repr(load_settings(config))
    for page in (server.serve_list, says(404, b"u5er T0KENT0KEN"), says(200, b"T0KENT0KEN no list")):
        server.page = page
        command = [sys.executable, "-m", "trafficmond.feeds", "-c", str(config), "--all"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)
        assert done.returncode == (0 if page == server.serve_list else 1), done.stderr
        said += done.stdout + done.stderr + (tmp_path / STATE_NAME).read_text()
    for secret in ("s3cr3tpath", "T0KENT0KEN", "u5er", "passw0rd"):
        assert secret not in said
    assert "'http://127.0.0.1/...'" in said
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('label = "x"', "path: is missing; write path, a file of prefixes, or url"),
        ('label = "x"\npath = "a"\nurl = "https://T0KEN.example/"', "are both set; remove one of them"),
        ('url = "https://T0KEN.example/"', "label: is the name of the fetched file"),
        ('label = "../x"\nurl = "https://T0KEN.example/"', "label: is the name of the fetched file"),
        ('label = "x"\nurl = "http://T0KEN.example/"', "is not encrypted"),
        ('label = "x"\nurl = "ftp://T0KEN.example/"', "is not a valid URL of a list"),
        ('label = "x"\nurl = "https://T0KEN.example:http/"', "is not a valid URL of a list"),
        ('label = "x"\nurl = "https://T0KEN.example/ a"', "is not a valid URL of a list"),
        ('label = "x"\nurl = "https://T0KEN.example/"\nurl_allow = ["all"]', "is not one of http, private, redirect"),
        ('label = "x"\nurl = "https://T0KEN.example/"\nrefresh = "1m"', "is too low"),
        ('label = "x"\nurl = ["https://u:T0KEN@lists.example/"]', '["https://..."] is not text'),
        ('label = "x"\nurl = {to = "https://lists.example/T0KEN"}', "{'to': 'https://...'} is not text"),
        ('label = "x"\nurl = "https://a.example/"\nurl_allow = ["http://T0KEN.example"]', '"http://..." is not one of'),
        ('label = "x"\nurl = "https://a.example/"\nrefresh = "https://T0KEN.example/"', "'https://...' is not a valid"),
        ('"https://T0KEN.example/" = 1', "list[0].https://...: no such setting"),
        ('label = "x"\npath = "https://lists.example/T0KEN"', "path: is a URL; write url instead"),
    ],
)
def test_wrong_settings_are_said_without_the_url(tmp_path: Path, text: str, wrong: str) -> None:
    config = tmp_path / "trafficmond.toml"
    config.write_text(f"[[list]]\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        load_settings(config)
    told = "\n".join(map(str, refused.value.mistakes))
    assert wrong in told
    assert "T0KEN" not in told


def test_two_lists_of_one_name_are_refused(tmp_path: Path) -> None:
    config = tmp_path / "trafficmond.toml"
    config.write_text('[[list]]\nlabel = "x"\nurl = "https://a.example/"\n' * 2)
    with pytest.raises(ConfigError, match=r"list\[1\].label: another"):
        load_settings(config)


def test_a_list_that_has_yet_to_be_fetched_is_empty_and_said(settings: Settings) -> None:
    policy = read_policy(settings, EMPTY)
    assert [note.what for note in policy.notes if "bad.netset" in note.where] == [
        "has not been fetched yet; to fetch it: systemctl enable --now trafficmon-fetch.timer"
    ]
    assert len(policy.prefixes) == 0
    run(settings)
    policy = read_policy(settings, EMPTY)
    assert len(policy.prefixes) == 3
    assert not [note for note in policy.notes if "bad.netset" in note.where]


def test_the_shapes_of_spamhaus_and_dshield() -> None:
    assert shape(DROP).data == b"1.10.16.0/20\n2a06:e480::/29\n"
    for lost in (DROP.replace(b'"records":2', b'"records": 1400'), b"\n".join(DROP.split(b"\n")[1:])):
        with pytest.raises(NoList, match=r"it announces (1,400|2) records and holds [12]"):
            shape(lost)
    with pytest.raises(NoList, match=r"^2 of its lines"):  # as it is counted where its length is bounded
        shape(b"{}\n" + b"ab\x0c\x1c\xe2\x80\xa8" * 10)
    assert shape(b"; Spamhaus DROP List\n1.10.16.0/20 ; SBL256894\n").prefixes == 1
    assert shape(BLOCK).data == b"80.94.95.0/24\n198.51.100.0/24\n"
    broken = shape(BLOCK.replace(b"198.51.100.0\t198.51.100.255\t24", b"hello"))
    assert (broken.prefixes, broken.wrong) == (1, 1)
    with pytest.raises(NoList, match="lines are not prefixes"):
        shape(b'{"error": "over quota"}\n{"cidr": 7}\n{not json\n')


def held(files: Files, folder: Path) -> tuple[int, list[str], bytes]:
    """How many prefixes the daemon has of it, its notes, and what it keeps for a start whose files have mistakes."""
    kept = folder / LAST_GOOD_NAME / (files.copies or {})[str(folder / "bad.netset")]
    notes = [note.what for note in files.notes if note.where.startswith(str(folder / "bad"))]
    return sum(len(part.prefixes) for part in files.parts), notes, kept.read_bytes()


def test_a_list_of_decisions_may_be_empty_if_the_settings_say_so(server: FeedServer, tmp_path: Path) -> None:
    """CrowdSec's mirror has none when the last decision has expired: what it held before must not stay in force."""
    settings = with_list(tmp_path, PrefixList(url=server.url(), label="bad", url_allow=("http", "private", "empty")))
    assert run(settings) == 0
    daemon = Sources(tmp_path)
    assert held(asyncio.run(daemon.read(settings)), tmp_path) == (3, [], LIST)
    for error in (b"<html>\nsorry\n</html>\n", b'{"message": "over quota"}', b'{"type": "error"}\n', b"[]", b"null\n"):
        server.page = says(200, error)
        assert run(settings, T0 + 7200) == 1
        assert (tmp_path / "bad.netset").read_bytes() == LIST
    for body in (b"", b"# nothing today\n"):
        server.page = says(200, body)
        assert run(settings, T0 + 8200, all_of_them=True) == 0
        assert (tmp_path / "bad.netset").read_bytes() == body
        assert read(tmp_path)["bad"].prefixes == 0
        assert not len(read_policy(settings, EMPTY).prefixes)
        assert held(asyncio.run(daemon.read(settings)), tmp_path) == (0, [], body), "nor is it after a start"
    server.page = server.serve_list
    assert run(settings, T0 + 9200, all_of_them=True) == 0
    assert len(read_policy(settings, EMPTY).prefixes) == 3


@pytest.mark.parametrize(
    "before", [b"\xef\xbb\xbf", b"# " + b"x" * 5000 + b"\n", b"  ;\r\n\r\n  #\r\n", b"\n" * 100_000]
)
@pytest.mark.parametrize(("body", "prefixes"), [(DROP, 2), (BLOCK, 2), (LIST, 3)], ids=["drop", "dshield", "plain"])
def test_what_stands_before_a_list_changes_nothing(before: bytes, body: bytes, prefixes: int) -> None:
    for ends in (b"\n", b"\r\n", b"\r"):
        found = shape(before + body.replace(b"\n", ends))
        assert (found.prefixes, found.wrong) == (prefixes, 0)


@given(st.binary(max_size=300))
def test_anything_else_is_a_list_or_said_to_be_none(body: bytes) -> None:
    try:
        found = shape(body)
    except NoList:
        return
    assert found.prefixes >= max(found.wrong, 1)


def test_what_is_kept_of_confirmed_rules_holds_the_file_and_no_url(settings: Settings, tmp_path: Path) -> None:
    before = fingerprint(settings)
    run(settings)
    assert fingerprint(settings) == before  # a server's news are nobody's change of rules
    kept = rule_settings(settings)
    assert "http" not in str(kept["lists"][0] | {"url_allow": ()})
    again = with_rule_settings(settings, kept)
    assert [each.file(again.feeds_dir) for each in again.lists] == [tmp_path / "bad.netset"]
    assert len(read_policy(again, EMPTY).prefixes) == 3


def test_lists_of_bogons_are_lists() -> None:
    """Large, but not the internet; what overlaps counts once."""
    bogons = b"224.0.0.0/3\n240.0.0.0/4\n0.0.0.0/8\n10.0.0.0/8\n127.0.0.0/8\n100.64.0.0/10\n2001:db8::/32\nfc00::/7\n"
    assert shape(bogons * 500).prefixes == 8 * 500
