"""Names of link types that cannot be read: https://www.tcpdump.org/linktypes.html."""

_NAMES = {
    "ARCNET": (7, 129),
    "AX.25": (3, 202),
    "BACnet": (165,),
    "Bluetooth": (187, 201, 251, 254, 255, 256, 272),
    "CAN": (190, 227),
    "D-Bus": (231,),
    "DECT": (221,),
    "DOCSIS": (143, 273),
    "EPON": (259,),
    "ERF": (175, 176),
    "Fibre Channel": (224, 225),
    "GPRS": (169, 170, 171),
    "GSM": (217, 218),
    "IEEE 802.15.4": (191, 195, 215, 230, 283),
    "InfiniBand": (247,),
    "IrDA": (144,),
    "ISDN": (177, 203),
    "Juniper": (*range(130, 138), 164, 167, 168, 174, 183, 194, 200, *range(232, 235), 238),
    "LIN": (212,),
    "LocalTalk": (114,),
    "MPEG-2": (243,),
    "MTP and SCCP": (139, 140, 141, 142),
    "OpenFlow": (267,),
    "PPP of BSD/OS": (103,),
    "SCTP without IP": (248,),
    "SLIP of BSD/OS": (102,),
    "TZSP": (128,),
    "RDS": (265,),
    "USB": (186, 189, 220, 249, 266, 288, 293, 294, 295),
    "VPP": (280,),
    "WiMAX": (188, 193),
    "Z-Wave": (261, 262, 287),
    "event tracing of Windows": (290,),
    "multilink frame relay": (182,),
    "netlink": (253,),
    "pfsync": (18, 246),
    "somebody's own": (147, 148, *range(150, 163)),
    "vsock": (271,),
}
_BY_NUMBER = {number: name for name, numbers in _NAMES.items() for number in numbers}


def named(link: int) -> str:
    """The number, with its name if known."""
    return f"{link} ({_BY_NUMBER[link]})" if link in _BY_NUMBER else str(link)
