"""pcap and pcapng, read with the host build of the kernel's parser."""

from collections.abc import Iterator

from trafficmond.analyze.native import Capture, Ledger, Note, account
from trafficmond.analyze.rows import renumber
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample
from trafficmond.analyze.source import CHUNK, Source
from trafficmond.flows.batch import Batch

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


TITLE = "packet capture (pcap, pcapng)"

_MAGIC = frozenset(
    bytes.fromhex(magic)
    for magic in ("a1b2c3d4", "d4c3b2a1", "a1b23c4d", "4d3cb2a1", "a1b2cd34", "34cdb2a1", "0a0d0d0a")
)

_NOTES = {  # enum tm_note_kind: the kind, and what its value means
    0: ("more damaged places", "{}"),
    1: ("impossible record length", "{}"),
    2: ("impossible block length", "{}"),
    3: ("truncated", "{} bytes missing or left over"),
    4: ("packet of an interface that the file does not describe", "interface {}"),
    5: ("unsupported link type", "number {}; its packets are counted as not IP; tshark may read them"),
    6: ("reading resumed", "after {} bytes"),
    7: ("unknown file version", "{}; the file is read as if it had the usual version"),
    8: ("too many interfaces", "{}"),
    9: ("impossible time", "interface {}; the time of the packet before it is used"),
    10: ("impossible time", "a fraction of a second of {} ticks, which is more than a second"),
    11: (
        "nanoseconds in a file of microseconds",
        "a fraction of {} microseconds; this file is read in nanoseconds from here on",
    ),
    12: ("packets without a time", "a simple packet block before any time; the next time is used, if there is one"),
    13: ("impossible length on the wire", "{} bytes; the captured length is used"),
}
_LOST, _LINK_TYPE, _VERSION = 0, 5, 7


def lacks(sample: Sample) -> Lacks:
    return [] if sample.head[:4] in _MAGIC else None


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """DELTA rows: the packets of each flow in an interval, merged."""
    ledger = Ledger(stats.batching.interval)
    capture = Capture(ledger)
    data = b""
    final = False
    while not final:
        more = source.read(CHUNK)
        final = not more
        data += more
        full = True
        while full:
            used, notes = capture.feed(data, final=final)
            for note in notes:
                _report(note, source)
            data = data[used:]
            full = ledger.full
            if ledger.waiting:
                yield renumber(ledger.take(), capture.name, stats)
        ledger.set_interval(stats.batching.interval)
    yield renumber(ledger.take(close=True), capture.name, stats)
    account(ledger.totals(), stats)


def _report(note: Note, source: Source) -> None:
    kind, detail = _NOTES[note.kind]
    if note.kind == _LOST:
        source.parse_errors.uncounted(kind, note.value)
        return
    value = named(note.value) if note.kind == _LINK_TYPE else str(note.value)
    if note.kind == _VERSION:
        value = f"{note.value >> 16}.{note.value & 0xFFFF}"
    source.parse_errors.offset(source.name, note.offset, kind, detail.format(value))
