"""Services by their names, and their places in the classes."""

from __future__ import annotations

import socket

import pytest

from trafficmond import abi, services

TCP, UDP = abi.WHAT_TCP, abi.WHAT_UDP


@pytest.mark.parametrize(
    ("texts", "places", "told"),
    [
        (["tcp/443"], ((443, 443),), ["tcp/443"]),
        (["TCP/443 ", "tcp/443"], ((443, 443),), ["tcp/443"]),
        (["53"], ((TCP + 53, TCP + 53), (UDP + 53, UDP + 53)), ["53"]),
        (["tcp/53", "udp/53", "tcp/22"], ((22, 22), (53, 53), (UDP + 53, UDP + 53)), ["tcp/22", "53"]),
        (["tcp/8000-8100", "tcp/8050-8200", "tcp/8201"], ((8000, 8201),), ["tcp/8000-8201"]),
        (["tcp/0-65535", "udp/0"], ((0, 65535), (UDP, UDP)), ["tcp", "udp/0"]),
        (["tcp", "udp"], ((0, 65535), (UDP, UDP + 65535)), ["0-65535"]),
        (["icmp/8", "icmpv6/128"], ((0x20008, 0x20008), (0x20180, 0x20180)), ["icmp/8", "icmpv6/128"]),
        (["icmp", "ipv6-icmp"], ((0x20000, 0x200FF), (0x20100, 0x201FF)), ["icmp", "icmpv6"]),
        (["gre", "esp"], ((0x2022F, 0x2022F), (0x20232, 0x20232)), ["gre", "esp"]),
        (["sctp", "ip-200"], ((0x20284, 0x20284), (0x202C8, 0x202C8)), ["sctp", "ip-200"]),
        (["ssh"], ((22, 22),), ["tcp/22"]),
        (["domain"], ((53, 53), (UDP + 53, UDP + 53)), ["53"]),
        (["udp/domain"], ((UDP + 53, UDP + 53),), ["udp/53"]),
    ],
)
def test_names_places_and_names_again(texts: list[str], places: services.Places, told: list[str]) -> None:
    found = services.parse(texts)
    assert (found, services.text(found)) == (places, told)
    assert services.parse(told) == found


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not a valid service"),
        ("nosuchservice", "is not a valid service"),
        ("tcp/", "is not a valid service"),
        ("tcp/nosuch", "is not a valid service"),
        ("tcp/65536", "out of range"),
        ("tcp/90-80", "the lower one first"),
        ("tcp/1-", "is not a valid service"),
        ("icmp/256", "types go from 0 to 255"),
        ("icmp/echo", "is not a valid service"),
        ("gre/7", "ports"),
        ("sctp/2905", "write sctp for all of it"),
        ("tcp/443/x", "is not a valid service"),
        ("-1", "is not a valid service"),
        ("tcp/٤", "is not a valid service"),
        ("nosuch/80", "is not a valid service"),
        ("22/tcp", "the wrong way round; write 'tcp/22'"),
        ("22/tpc", "is not a valid service"),
        ("8000-8100/udp", "write 'udp/8000-8100'"),
        ("ssh/tcp", "write 'tcp/ssh'"),
        ("8/icmp", "write 'icmp/8'"),
        ("tcp/80\x1b[31m", r"'tcp/80\\x1b\[31m' is not"),
        ("tcp/" + 500 * "x", r"x\.\.\.' is not"),
    ],
)
def test_what_names_nothing_is_said(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        services.parse([text])


@pytest.mark.parametrize("there", [True, False])
def test_the_commonest_names_need_no_file(there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object) -> int:
        raise OSError("service/proto not found")

    if not there:
        monkeypatch.setattr(socket, "getservbyname", absent)
    services._parsed.cache_clear()
    names = ["ssh", "smtp", "domain", "http", "https", "ntp", "submission", "imaps"]
    ports = [["tcp/22"], ["tcp/25"], ["53"], ["tcp/80"], ["443"], ["udp/123"], ["tcp/587"], ["tcp/993"]]
    assert [services.text(services.parse([each])) for each in names] == ports
    services._parsed.cache_clear()


def test_there_are_not_too_many() -> None:
    with pytest.raises(ValueError, match="1,001 services"):
        services.parse(["tcp/1"] * 1001)


def test_fragments_go_with_what_passes() -> None:
    fragment = abi.WHAT_FRAGMENT
    udp, gre = (fragment + 17, fragment + 17), (fragment + 47, fragment + 47)
    some = services.parse(["udp/53", "gre"])
    assert services.with_unread(some, True, False) == (*some, udp, gre)
    assert services.with_unread(some, False, False) == (*some, gre), "without its first one a datagram is dead"
    whole = services.parse(["udp"])
    assert services.with_unread(whole, False, False) == (*whole, udp)


def test_headers_that_go_on_too_long_go_with_what_stops() -> None:
    headers = tuple((abi.WHAT_OTHER + each, abi.WHAT_OTHER + each) for each in (43, 44, 60))
    some = services.parse(["tcp/22"])
    assert services.with_unread(some, False, True) == (*some, *headers)
    assert services.without_unread(services.with_unread(some, True, True)) == some
    named = services.parse(["ipv6-opts"])
    assert services.with_unread(named, False, True)[:3] == (*named, *headers[:2])


def test_contains() -> None:
    some = services.parse(["tcp/80-90", "udp/53"])
    assert services.contains(some, services.parse(["tcp/85"]))
    assert not services.contains(some, services.parse(["85"]))
    assert services.contains((), some)
    assert not services.contains(some, services.parse(["icmp"]))
