from __future__ import annotations

import pytest

from trafficmond.protocols import endpoint, protocol_name, protocol_number


def test_the_names_of_the_original_record() -> None:
    assert [protocol_name(n) for n in (1, 6, 17)] == ["ICMP", "TCP", "UDP"]


def test_every_number_reads_back() -> None:
    assert [protocol_number(protocol_name(n)) for n in range(256)] == list(range(256))


def test_names_are_read_in_any_case_and_as_numbers() -> None:
    assert (protocol_number("tcp"), protocol_number("icmpV6"), protocol_number("132")) == (6, 58, 132)


@pytest.mark.parametrize("text", ["", "tcpp", "256", "-1", "ip-", "²"])
def test_what_is_no_protocol_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an IP protocol"):
        protocol_number(text)


def test_ends_of_packets() -> None:
    assert endpoint("192.0.2.1", 443, "TCP") == "192.0.2.1:443"
    assert endpoint("::1", 5, "UDP") == "[::1]:5"
    assert endpoint("::1", 128, "ICMPv6") == "::1"
    assert endpoint("192.0.2.1", None, "TCP") == "192.0.2.1"
