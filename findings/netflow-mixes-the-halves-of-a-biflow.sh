#!/usr/bin/env bash
# PyPI's `netflow` 0.12.2 (IPFIX parser) makes one flow of both halves of a bidirectional IPFIX record.
#
# RFC 5103 puts the answers of a conversation into the same record, as "reverse" elements: the same element number
# under enterprise number 29305. One would expect a parser to keep them apart or to leave out what it does not know.
# This one names both octetDeltaCount and keeps the fields of a record in a set of (number, value), so the order in which
# the set gives them, hence the values themselves, decide which half stands, for each counter anew. Here the flow has the
# initiator's packets and the responder's bytes, without a word.
#
# Seen: {'octetDeltaCount': 7000, 'packetDeltaCount': 10, ...} for 10 packets with 1,000 bytes there and 20 with 7,000 back.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install netflow==0.12.2 2>/dev/null

"$folder/venv/bin/python" - <<'PYTHON'
import struct

from netflow.ipfix import IPFIXExportPacket

REVERSE = 29305
FIELDS = [(8, 4, 0), (12, 4, 0), (1, 8, 0), (2, 8, 0), (1, 8, REVERSE), (2, 8, REVERSE)]
template = b"".join(
    struct.pack("!HH", number | (0x8000 if enterprise else 0), length) + (struct.pack("!I", enterprise) if enterprise else b"")
    for number, length, enterprise in FIELDS
)
template = struct.pack("!HHHH", 2, 8 + len(template), 256, len(FIELDS)) + template
record = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + struct.pack("!QQQQ", 1000, 10, 7000, 20)
data = struct.pack("!HH", 256, 4 + len(record)) + record
message = struct.pack("!HHIII", 10, 16 + len(template) + len(data), 1_700_000_000, 0, 1) + template + data

(flow,) = IPFIXExportPacket(message, {}).flows
print(flow.data)
assert (flow.data["octetDeltaCount"], flow.data["packetDeltaCount"]) == (7000, 10), "the behaviour changed"
PYTHON
