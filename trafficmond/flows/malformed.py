"""The reasons why packets are malformed, in words: live and offline, in status, metrics and reports."""

from collections.abc import Iterable

from trafficmond import abi

MALFORMED = {
    abi.SHORT_ETHERNET: "short_ethernet",
    abi.SHORT_VLAN: "short_vlan",
    abi.SHORT_IP: "short_ip",
    abi.BAD_IP_HEADER: "bad_ip_header",
    abi.BAD_IP_LENGTH: "bad_ip_length",
    abi.SHORT_EXTENSION: "short_extension",
    abi.SHORT_TRANSPORT: "short_transport",
    abi.BAD_TRANSPORT: "bad_transport",
    abi.DEEP_EXTENSIONS: "deep_extensions",
    abi.UNPARSED_LINK: "unparsed_link",
}


def by_reason(counts: Iterable[int]) -> dict[str, int]:
    """Packets by reason, from counts by its number; zeros are left out."""
    return {MALFORMED[number]: int(count) for number, count in enumerate(counts) if number in MALFORMED and count}
