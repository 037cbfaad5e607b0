"""URLs of exports: what they mean, and what is refused with words that help."""

from __future__ import annotations

from pathlib import Path

import pytest

from trafficmond.config.declare import read
from trafficmond.config.settings import Settings
from trafficmond.config.target import Target, export_url, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ipfix+udp://192.0.2.5", Target("ipfix+udp", "192.0.2.5", 4739)),
        ("ipfix+tcp://[2001:db8::5]:9995", Target("ipfix+tcp", "2001:db8::5", 9995)),
        ("clickhouse://ch.example:8124/net", Target("clickhouse", "ch.example", 8124, "net")),
        (
            "clickhouse+https://me:a%2Fb@ch.example",
            Target("clickhouse+https", "ch.example", 8443, user="me", password="a/b"),
        ),
    ],
)
def test_what_a_url_means(text: str, target: Target) -> None:
    assert parse_target(text) == target


def test_said_again_without_secrets() -> None:
    assert str(parse_target("clickhouse://me:secret@[::1]/net")) == "clickhouse://[::1]:8123/net"
    assert str(parse_target("ipfix+udp://192.0.2.5:1")) == "ipfix+udp://192.0.2.5:1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("192.0.2.5:4739", "the schemes are"),
        ("ipfix+udp://192.0.2.5:99999", "not a valid URL"),
        ("ipfix+udp://", "not a valid target"),
        ("ipfix+udp://192.0.2.5/x", "has a user or a path"),
        ("http://192.0.2.5", "the schemes are"),
        ("clickhouse://x/a;b", "not a valid name of a database"),
        ("clickhouse://x/a?b=1", "not a valid target"),
        ("clickhouse://me:secret@x/a", "password_file"),
    ],
)
def test_what_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        export_url(text)


def test_two_exports_to_one_place_are_a_mistake() -> None:
    found: list[tuple[str, str]] = []
    tables = [{"to": "clickhouse://a/flows"}, {"to": "clickhouse://you@a:8123/flows"}]
    read(Settings, {"export": tables}, lambda *mistake: found.append(mistake), base=Path("/"))
    assert [key for key, _ in found] == ["export[1].to"]
