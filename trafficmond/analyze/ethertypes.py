"""Names of protocols other than IP, by EtherType (https://www.iana.org/assignments/ieee-802-numbers)."""

from collections import Counter

from trafficmond.analyze.run_stats import OTHER_TYPE

_SHOWN = 8
_NAMES = {
    OTHER_TYPE: "other",
    0: "no EtherType",
    1: "802.2 LLC (STP and the like)",  # TM_ETH_LLC in bpf/host_layers.h
    0x0806: "ARP",
    0x0842: "Wake-on-LAN",
    0x2000: "CDP",
    0x6002: "DEC MOP",
    0x6003: "DECnet",
    0x8035: "RARP",
    0x809B: "AppleTalk",
    0x80F3: "AppleTalk ARP",
    0x8100: "802.1Q tag",
    0x8137: "IPX",
    0x8808: "Ethernet flow control",
    0x8809: "LACP and other slow protocols",
    0x8847: "MPLS",
    0x8848: "MPLS multicast",
    0x8863: "PPPoE discovery",
    0x8864: "PPPoE session, not IP",
    0x888E: "EAPOL",
    0x8892: "PROFINET",
    0x88A2: "ATA over Ethernet",
    0x88A4: "EtherCAT",
    0x88B8: "GOOSE",
    0x88CC: "LLDP",
    0x88E1: "HomePlug",
    0x88E5: "MACsec, encrypted",
    0x88F5: "MVRP",
    0x88F7: "PTP",
    0x8902: "CFM",
    0x8906: "FCoE",
    0x8909: "Cisco TrustSec",
    0x890D: "TDLS",
    0x9000: "Ethernet loopback",
}


def shown(types: Counter[int]) -> dict[str, int]:
    """Packets by the name of their type, the most frequent first; all but the first few are combined."""
    named = {_name(kind): packets for kind, packets in types.most_common(_SHOWN)}
    if rest := sum(types.values()) - sum(named.values()):
        named[_NAMES[OTHER_TYPE]] = named.get(_NAMES[OTHER_TYPE], 0) + rest
    return named


def _name(kind: int) -> str:
    if kind <= 1:
        return _NAMES[kind]
    return f"{_NAMES[kind]} (0x{kind:04x})" if kind in _NAMES else f"EtherType 0x{kind:04x}"
