"""What the guard protects, from files and netlink of a host."""

from __future__ import annotations

from pathlib import Path

from trafficmond.datapath.lifelines import lifelines


def _resolvers(tmp_path: Path, text: bytes) -> set[str]:
    path = tmp_path / "resolv.conf"
    path.write_bytes(text)
    own = {prefix for prefix, _ in lifelines(tmp_path / "missing")}
    return {prefix for prefix, what in lifelines(path) if what == "resolver"} - own


def test_resolvers_are_read_as_they_are_written(tmp_path: Path) -> None:
    text = b"""\
# nameserver 203.0.113.1
search example.net
nameserver 203.0.113.53
  nameserver\t2001:db8::53   # the other one
nameserver fe80::53%eth0
nameserver
nameserver not-an-address
nameserver 203.0.113.999
Nameserver 203.0.113.54
nameserver 203.0.113.55 \xff\xfe
"""
    expected = {"203.0.113.53/32", "2001:db8::53/128", "fe80::53/128", "203.0.113.55/32"}
    assert _resolvers(tmp_path, text) == expected


def test_a_host_without_resolvers_has_its_addresses(tmp_path: Path) -> None:
    assert ("127.0.0.1/32", "own address") in lifelines(tmp_path / "missing")


def test_what_is_own_and_resolver_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    assert [what for prefix, what in lifelines(tmp_path / "resolv.conf") if prefix == "127.0.0.1/32"] == ["own address"]
