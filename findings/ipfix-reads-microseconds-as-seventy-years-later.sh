#!/usr/bin/env bash
# PyPI's `ipfix` 0.9.7 (Debian 12: python3-ipfix 0.9.7-3): what happened in 2023 has happened in 2093, if the exporter
# tells the time in microseconds.
#
# RFC 7011 (6.1.9) writes dateTimeMicroseconds and dateTimeNanoseconds as NTP does: seconds since 1900. The other two
# time types count from 1970. This library's documentation says "in NTP format" and has the fraction so, but counts its
# seconds from 1970 too, writing and reading. What it wrote it reads back as it was, so a test by its own hand passes;
# every other exporter's flows are seventy years late, and every other collector takes its own as of 1953.
#
# Seen, one record with one moment twice: flowStartMilliseconds 2023-11-14, flowStartMicroseconds 2093-11-13 (22:13:20 both)
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install ipfix==0.9.7 2>/dev/null

"$folder/venv/bin/python" - <<'PYTHON'
import io
import struct

import ipfix.ie
import ipfix.reader

AT = 1700000000
FROM_1900_TO_1970 = 2208988800
template = struct.pack("!HHHHHHHH", 2, 16, 256, 2, 152, 8, 154, 8)  # flowStartMilliseconds, flowStartMicroseconds
record = struct.pack("!QQ", AT * 1000, (AT + FROM_1900_TO_1970) << 32)
data = struct.pack("!HH", 256, 4 + len(record)) + record
message = struct.pack("!HHIII", 10, 16 + len(template) + len(data), AT, 0, 1) + template + data

ipfix.ie.use_iana_default()
(flow,) = ipfix.reader.from_stream(io.BytesIO(message)).namedict_iterator()
for name, at in flow.items():
    print(name, at)
assert [at.year for at in flow.values()] == [2023, 2093], "the behaviour changed"
PYTHON
