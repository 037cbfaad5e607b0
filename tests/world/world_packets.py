"""A world's conversations packet by packet, as a capture holds them, and as one-way records of an exporter.

Every packet of a record is there, with its flags, at a moment within the record.
"""

from __future__ import annotations

import struct

import numpy as np

from trafficmond import abi
from trafficmond.flows.batch import ENDPOINTS, Batch, Column
from trafficmond.flows.canonical import MATE
from trafficmond.protocols import ACK, FIN, ICMP, PSH, RST, SYN, TCP, UDP

PACKET = np.dtype(
    [*ENDPOINTS, ("at", "f8"), ("payload", "u4"), ("flags", "u1"), ("seq", "u4"), ("ack", "u4"), ("ip_bytes", "u4")]
)
ONE_WAY = np.dtype([*ENDPOINTS, ("start", "f8"), ("end", "f8"), ("packets", "u8"), ("ip_bytes", "u8"), ("flags", "u1")])
_MOST = 20_000
"""Packets of one side of a flow: more are sent as the large ones that a capture on the host itself has (offloading)."""
_RTT_S = 0.002
_ASKED = 50  # bytes that an answer acknowledges at least
_SYN_OPTIONS = 20
_HEADERS = {TCP: 40, UDP: 28, ICMP: 28}
_KEPT = {TCP: 54, UDP: 42, ICMP: 42}
_PCAP = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 96, 1)


def packets(rows: Batch) -> Batch:
    """PACKET rows of RECORD rows, by time."""
    both = np.concatenate([_side(rows, ""), _side(rows, "reply_")])
    return both[np.argsort(both["at"], kind="stable")]


def pcap(sent: Batch) -> bytes:
    """A capture of PACKET rows, their payload cut off."""
    frames = np.zeros((len(sent), 16 + 54), np.uint8)
    kept = np.select([sent["proto"] == TCP], [_KEPT[TCP]], _KEPT[UDP])
    whole = np.floor(sent["at"])
    head = np.stack([whole, (sent["at"] - whole) * 1e9, kept, sent["ip_bytes"] + 14], axis=1).astype("<u4")
    frames[:, :16] = head.view(np.uint8)
    frames[:, 16:28], frames[:, 28:31] = 2, (8, 0, 0x45)
    frames[:, 38], frames[:, 39] = 64, sent["proto"]

    def put(at: int, values: Column, form: str) -> None:
        octets = np.ascontiguousarray(values.astype(form)).view(np.uint8).reshape(len(sent), -1)
        frames[:, at : at + octets.shape[1]] = octets

    put(32, sent["ip_bytes"], ">u2")
    for at, side in ((42, "src"), (46, "dst")):
        put(at, sent[f"{side}_lo"] & np.uint64(0xFFFFFFFF), ">u4")
    icmp, tcp = sent["proto"] == ICMP, sent["proto"] == TCP
    put(50, np.where(icmp, sent["sport"] << 8, sent["sport"]), ">u2")
    put(52, np.where(icmp, 0, sent["dport"]), ">u2")
    put(54, np.where(tcp, sent["seq"] >> np.uint32(16), np.where(icmp, 1, sent["payload"] + 8)), ">u2")
    put(56, np.where(tcp, sent["seq"] & np.uint32(0xFFFF), 0), ">u2")
    put(58, sent["ack"], ">u4")
    frames[:, 62] = np.where(sent["flags"] & SYN, 20 + _SYN_OPTIONS, 20) << 2
    frames[:, 63] = sent["flags"]
    frames[:, 64] = 2
    return _PCAP + frames[np.arange(70) < 16 + kept[:, None]].tobytes()


def one_way(sent: Batch, window_s: float, idle_s: float = np.inf, clock_s: float = 0.001) -> Batch:
    """ONE_WAY rows of PACKET rows, by end: what an exporter sums up of each direction within each window of the clock,
    or between pauses; its own clock tells times in whole `clock_s`."""
    names = [name for name, *_ in ENDPOINTS[:6]]
    order = np.lexsort((sent["at"], *(sent[name] for name in names)))
    sent = sent[order]
    window = np.floor(sent["at"] / window_s)
    begins = np.ones(len(sent), bool)
    begins[1:] = (window[1:] != window[:-1]) | (np.diff(sent["at"]) > idle_s)
    for name in names:
        begins[1:] |= sent[name][1:] != sent[name][:-1]
    at = np.flatnonzero(begins)
    rows = np.zeros(len(at), ONE_WAY)
    for name, *_ in ENDPOINTS:
        rows[name] = sent[name][at]
    rows["start"] = np.floor(sent["at"][at] / clock_s) * clock_s
    rows["end"] = np.floor(sent["at"][np.append(at[1:], len(sent)) - 1] / clock_s) * clock_s
    rows["packets"] = np.diff(np.append(at, len(sent)))
    rows["ip_bytes"] = np.add.reduceat(sent["ip_bytes"].astype(np.uint64), at)
    rows["flags"] = np.bitwise_or.reduceat(sent["flags"], at)
    return rows[np.argsort(rows["end"], kind="stable")]


def _side(rows: Batch, prefix: str) -> Batch:
    """The packets that one side of each row sent."""
    count = np.minimum(rows[prefix + "packets"], _MOST).astype(np.int64)
    which = np.repeat(np.arange(len(rows)), count)
    number = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    rows, count = rows[which], count[which]
    tcp, reply = rows["proto"] == TCP, bool(prefix)
    out = np.zeros(len(rows), PACKET)
    for name, *_ in ENDPOINTS:
        out[name] = rows[name]
    if reply:
        for one, other in (("src_hi", "dst_hi"), ("src_lo", "dst_lo"), ("sport", "dport")):
            out[one], out[other] = rows[other], rows[one]
        icmp = rows["proto"] == ICMP
        out["sport"][icmp], out["dport"][icmp] = MATE[ICMP, rows["sport"][icmp]], 0

    # ---- payload: evenly over what is behind the handshake and before the end ----
    flags, span = rows[prefix + "tcp_flags"], rows["end"] - rows["start"]
    talks = tcp & (flags & ACK != 0) & (flags & SYN != 0)
    ahead = np.where(talks, 1 if reply else 2, 0)
    closes = talks & (flags & (FIN | RST) != 0) & (number == count - 1)
    places = np.maximum(count - ahead - (talks & (flags & (FIN | RST) != 0)), 1)
    place = np.clip(number - ahead, -1, places)
    total = rows[prefix + "payload_bytes"].astype(np.int64)
    share = [total * np.clip(each, 0, places) // places for each in (place, place + 1)]
    out["payload"] = np.where(closes | (place < 0), 0, share[1] - share[0])

    # ---- when, and by which flags: who greets speaks before he has heard anything ----
    greets = rows["reply_bits"] & abi.BIT_SPOKE_FIRST != 0
    step = np.minimum(_RTT_S, span / 8)
    turn = np.where(greets, not reply, reply)
    body = np.where(talks, 3 + turn / 2, reply / 2) * step + np.maximum(span - 5 * step, 0) * place / places
    opening = (2 * number + reply) * step
    out["at"] = rows["start"] + np.where(closes, span - reply * step / 4, np.where(place < 0, opening, body))
    out["flags"] = np.where(talks, np.where(out["payload"] > 0, PSH | ACK, ACK), flags)
    out["flags"][number == 0] = rows[prefix + "first_flags"][number == 0]
    out["flags"][closes] = (flags[closes] & (FIN | RST)) | ACK
    out["seq"] = np.where(out["flags"] & SYN, 1000, 1001)
    heard = np.where(reply & ~greets & (place >= 0), _ASKED, 0)
    out["ack"] = np.where(out["flags"] & ACK, 1001 + heard, 0)
    headers = np.where(tcp, _HEADERS[TCP] + np.where(out["flags"] & SYN, _SYN_OPTIONS, 0), _HEADERS[UDP])
    out["ip_bytes"] = np.minimum(out["payload"] + headers, 65535)
    return out
