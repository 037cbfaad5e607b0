"""Flows as IPFIX, read by python3-ipfix and libfixbuf (RFC 7011 and 5103 by other hands): every value and its name."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import warnings
from collections import Counter
from typing import Any

import pytest

pytest.importorskip("ipfix", reason="needs apt-get install python3-ipfix")
import ipfix.ie
import ipfix.reader
from export_reports import every_kind, totals

from trafficmond.export.ipfix import Stream, parts
from trafficmond.flows.batch import Batch, address_text

EACH = 50


def messages(rows: Batch, *, biflow: bool) -> bytes:
    """A file of IPFIX (RFC 5655): the messages one after another."""
    stream = Stream(7)
    found = b"".join(stream.templates(1452, 1_700_000_000.9))
    for part in parts(rows, 1452, biflow=biflow):
        found += stream.message(part.sets, part.records, 1_700_000_000.9)
    return found


def read_back(rows: Batch, *, biflow: bool) -> list[dict[str, Any]]:
    found = messages(rows, biflow=biflow)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its regular expressions are older than Python 3.12
        ipfix.ie.use_iana_default()
        ipfix.ie.use_5103_default()
        return list(ipfix.reader.from_stream(io.BytesIO(found)).namedict_iterator())


def addresses(record: dict[str, Any]) -> tuple[str, str]:
    family = "IPv4" if "sourceIPv4Address" in record else "IPv6"
    return str(record[f"source{family}Address"]), str(record[f"destination{family}Address"])


def ends_of(row: Any, side: str) -> str:
    return address_text(int(row[f"{side}_hi"]), int(row[f"{side}_lo"]), int(row["family"]))


@pytest.mark.parametrize("biflow", [False, True])
def test_every_packet_arrives_under_its_name(biflow: bool) -> None:
    rows = every_kind(EACH)
    found = read_back(rows, biflow=biflow)
    sent = totals(rows)
    both = {name: sum(record.get(name, 0) for record in found) for name in
            ("packetDeltaCount", "octetDeltaCount", "reversePacketDeltaCount", "reverseOctetDeltaCount")}  # fmt: skip
    assert both["packetDeltaCount"] + both["reversePacketDeltaCount"] == sent["packets"] + sent["reply_packets"]
    assert both["octetDeltaCount"] + both["reverseOctetDeltaCount"] == sent["bytes"] + sent["reply_bytes"]
    assert (both["reversePacketDeltaCount"] > 0) == biflow


def test_ends_times_and_what_was_done() -> None:
    rows = every_kind(EACH)
    found = read_back(rows, biflow=True)
    assert len(found) == len(rows)
    ours = Counter((ends_of(row, "src"), ends_of(row, "dst"), int(row["proto"])) for row in rows)
    theirs = Counter((*addresses(record), record["protocolIdentifier"]) for record in found)
    # Of a flow that only its replies were seen of, the replies are what is told, and their ends with them.
    alone = Counter({key: count for key, count in theirs.items() if ours[key] != count})
    assert sum((theirs - ours).values()) == EACH, alone
    assert {round((record["flowEndMilliseconds"] - record["flowStartMilliseconds"]).total_seconds(), 3)
            for record in found} == {1.5}  # fmt: skip
    assert {record["forwardingStatus"] for record in found} == {64, 130}  # RFC 7270: forwarded, dropped by policy


@pytest.mark.parametrize("biflow", [False, True])
def test_libfixbuf_knows_each_element_and_has_the_same_sums(biflow: bool) -> None:
    if not shutil.which("ipfixDump"):
        pytest.skip("needs ipfixDump; run: apt-get install libfixbuf-tools")
    rows = every_kind(EACH)
    command = ["ipfixDump", "--data"]
    shown = subprocess.run(command, input=messages(rows, biflow=biflow), capture_output=True, check=True)
    assert shown.stderr == b""
    fields = re.findall(r"^\t\((?:29305/)?\d+\) +(\w+) : (.*)$", shown.stdout.decode(), re.MULTILINE)
    found, sent = Counter[str](), totals(rows)
    for name, value in fields:
        if name.endswith("DeltaCount"):
            found[name] += int(value)
    assert found["packetDeltaCount"] + found["reversePacketDeltaCount"] == sent["packets"] + sent["reply_packets"]
    assert found["octetDeltaCount"] + found["reverseOctetDeltaCount"] == sent["bytes"] + sent["reply_bytes"]
    assert {name for name, _ in fields} >= {
        "forwardingStatus",
        "icmpTypeCodeIPv6",
        "destinationTransportPort",
        "vlanId",
    }
