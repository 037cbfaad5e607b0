"""Plain lists: both ways of reading them say the same, and every odd file is ordinary or a named mistake."""

from __future__ import annotations

import gzip
import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from policy_loading import ROOT

from trafficmond.policy import listfile
from trafficmond.policy.listfile import PrefixList, parse_list

LISTS = ROOT.parent / "shared" / "data" / "cidr"


def texts(found: PrefixList) -> list[str]:
    return [found.prefixes.text(row) for row in range(len(found.prefixes))]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\n\r\n", []),
        (b"# nothing yet\n; nor here", []),
        (b"192.0.2.0/24", ["192.0.2.0/24"]),
        (b"192.0.2.0/24\r\n2001:db8::/32\r\n", ["192.0.2.0/24", "2001:db8::/32"]),
        (b"192.0.2.0/24\r198.51.100.7\r", ["192.0.2.0/24", "198.51.100.7"]),
        (b"\xef\xbb\xbf192.0.2.0/24\n", ["192.0.2.0/24"]),
        (b"  192.0.2.0/24\t# caf\xe9\n", ["192.0.2.0/24"]),
        (b"1.10.16.0/20 ; SBL256894\n", ["1.10.16.0/20"]),
        (b"192.0.2.9/24\n192.0.2.0/24\n", ["192.0.2.0/24", "192.0.2.0/24"]),
        (b"0.0.0.0/0\n255.255.255.255\n", ["0.0.0.0/0", "255.255.255.255"]),
    ],
)
def test_ordinary_files(data: bytes, expected: list[str]) -> None:
    found = parse_list(data, "list")
    assert texts(found) == expected
    assert not found.mistakes


def test_columns_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listfile, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(listfile, "_MOST_ROOM", 3)
    lines = [f"192.0.2.{n}" if n % 20 else f"2001:db8::{n:x}" for n in range(1, 200)]
    assert texts(parse_list("\n".join(lines).encode(), "list")) == lines


def test_host_bits_are_counted() -> None:
    assert parse_list(b"192.0.2.9/24\n10.0.0.0/8\n10.1.0.0/8\n", "list").host_bits == 2
    assert parse_list(b"2001:db8::1/32\n", "list").host_bits == 1


def test_mistakes_have_their_lines() -> None:
    data = b"# head\n192.0.2.0/24\n\n192.0.2.256\n10.0.0.0/8\nexample.org ; x\n"
    found = parse_list(data, "bad.txt")
    assert [mistake.where for mistake in found.mistakes] == ["bad.txt:4", "bad.txt:6"]
    assert found.wrong == 2


def test_blank_blocks_count_as_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listfile, "_BLOCK_BYTES", 16)
    found = parse_list(b"\n" * 100 + b"# only\n" * 100 + b"bad\n" + b" \n" * 100 + b"192.0.2.1\nworse", "a")
    assert [each.where for each in found.mistakes] == ["a:201", "a:303"]
    assert texts(found) == ["192.0.2.1"]


def test_mistakes_are_bounded_and_counted_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listfile, "_BLOCK_BYTES", 64)
    found = parse_list(b"192.0.2.0/24\nwrong\n" * 500, "bad.txt")
    assert found.wrong == 500
    assert len(found.mistakes) == 100
    assert found.mistakes[99].where == "bad.txt:200"


@pytest.mark.parametrize("data", [gzip.compress(b"192.0.2.0/24\n", mtime=0), "192.0.2.0/24\n".encode("utf-16")])
def test_not_text(data: bytes) -> None:
    [mistake] = parse_list(data, "list.txt").mistakes
    assert "not plain text" in mistake.what


FIELDS = st.one_of(
    st.integers(0, 300).map(str), st.sampled_from(("", "0", "00", "010", "256", "9999", "1 ", "a", "-1"))
)
LINES = st.one_of(
    st.just(""),
    st.ip_addresses(v=4).map(str),
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 40)),
    st.builds("{}.{}.{}.{}/{}".format, FIELDS, FIELDS, FIELDS, FIELDS, FIELDS),
    st.builds("{}.{}.{}.{}".format, FIELDS, FIELDS, FIELDS, FIELDS),
    st.text("0123456789./", max_size=20),
)


@given(st.lists(LINES, max_size=12))
@example(["1.2.3.4.5/6", "1.2.3"])
@example(["1.2.3/4.5"])
@example(["1.2.3/4"])
@example(["1.2.3/4/5"])
@example(["1.2.3.4.5"])
@example(["1.2.3.4", "", "5.6.7.8/"])
@example([".1.2.3.4"])
@example(["1.2.3.4/24/"])
@example(["0.0.0.0/00"])
def test_bytes_are_read_as_strictly_as_lines(lines: list[str]) -> None:
    """The byte-wise reading takes a block only if each line is a prefix, and then reads what the other one reads."""
    block = ("\n".join(lines) + "\n").encode()
    columns = listfile._ipv4_columns(block)
    wanted = [line for line in lines if line]
    parsed = listfile.prefixes.parse(wanted)
    if columns is not None:
        assert not parsed.bad
        rows, odd = listfile.prefixes.masked(columns)
        assert odd == parsed.host_bits
        assert [rows.text(row) for row in range(len(rows))] == [
            parsed.prefixes.text(row) for row in range(len(parsed.prefixes))
        ]
    elif " " not in block.decode():
        assert parsed.bad


def test_real_lists() -> None:
    if not LISTS.is_dir():
        pytest.skip(f"needs the public prefix lists in {LISTS}")
    counts = {}
    for path in sorted(LISTS.iterdir()):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        found = parse_list(data, path.name)
        assert found.mistakes == []
        counts[path.name] = len(found.prefixes)
    assert counts["bgp_full_table.txt.gz"] == 1_062_046
    drop = (LISTS / "drop.txt").read_text().splitlines()
    plain = [line.partition(";")[0].strip() for line in drop]
    expected = [str(ipaddress.ip_network(line)) for line in plain if line]
    assert texts(parse_list((LISTS / "drop.txt").read_bytes(), "drop.txt")) == expected
