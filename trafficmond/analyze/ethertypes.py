"""Names of protocols other than IP, by EtherType (https://www.iana.org/assignments/ieee-802-numbers)."""

from collections import Counter

from trafficmond.analyze.run_stats import OTHER_TYPE

_SHOWN = 8
_LIST = (
    "0806 ARP; 0842 Wake-on-LAN; 2000 CDP; 6002 DEC MOP; 6003 DECnet; 8035 RARP; 809B AppleTalk; 80F3 AppleTalk ARP; "
    "8100 802.1Q tag; 8137 IPX; 8808 Ethernet flow control; 8809 LACP and other slow protocols; 8847 MPLS; "
    "8848 MPLS multicast; 8863 PPPoE discovery; 8864 PPPoE session, not IP; 888E EAPOL; 8892 PROFINET; "
    "88A2 ATA over Ethernet; 88A4 EtherCAT; 88B8 GOOSE; 88CC LLDP; 88E1 HomePlug; 88E5 MACsec, encrypted; 88F5 MVRP; "
    "88F7 PTP; 8902 CFM; 8906 FCoE; 8909 Cisco TrustSec; 890D TDLS; 9000 Ethernet loopback"
)
_NAMES = {
    OTHER_TYPE: "other",
    0: "no EtherType",
    1: "802.2 LLC (STP and the like)",  # TM_ETH_LLC in bpf/host_layers.h
    **{int(number, 16): name for number, _, name in (each.partition(" ") for each in _LIST.split("; "))},
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
