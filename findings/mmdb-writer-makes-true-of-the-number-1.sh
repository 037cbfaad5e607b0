#!/usr/bin/env bash
# PyPI's mmdb_writer 0.2.7: in a MaxMind database that it writes, the number 1 is `true` if a `true` was written before it.
#
# It is the usual way to make a database of one's own networks for whatever reads the format (nfdump, nginx, Wireshark, the
# geoip2 libraries), and the format tells booleans, integers and doubles apart. One would expect each value to be
# stored with the type it was given with. Values that were written are kept in a dict, to point back at them, and for
# Python's dict True, 1 and 1.0 are one key. So what comes first decides, in whatever network: AS number 1, a count of
# 1 or a confidence of 1.0 becomes true, or the other way round, and a strictly typed reader refuses the record, far from
# the network that caused it. The order in which networks are inserted changes the types.
#
# Seen: anycast true, then AS 1: {'asn': True}; AS 1 first: {'anycast': 1}; AS 2: {'asn': 2} either way
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install \
	mmdb_writer==0.2.7 netaddr==1.3.0 maxminddb==3.2.0 2>/dev/null

"$folder/venv/bin/python" - "$folder/own.mmdb" <<'PYTHON'
import sys

import maxminddb
from mmdb_writer import MMDBWriter
from netaddr import IPSet


def written(*records: dict[str, object]) -> str:
    """Each record as the database has it, after one network of each was inserted in this order."""
    writer = MMDBWriter(ip_version=4)
    for number, record in enumerate(records):
        writer.insert_network(IPSet([f"10.0.{number}.0/24"]), record)
    writer.to_db_file(sys.argv[1])
    with maxminddb.open_database(sys.argv[1]) as database:
        return " ".join(str(database.get(f"10.0.{number}.1")) for number in range(len(records)))


seen = [
    written({"anycast": True}, {"asn": 1}),
    written({"asn": 1}, {"anycast": True}),
    written({"share": 1.0}, {"asn": 1}),
    written({"anycast": True}, {"asn": 2}),
]
print(*seen, sep="\n")
assert seen == [
    "{'anycast': True} {'asn': True}",
    "{'asn': 1} {'anycast': 1}",
    "{'share': 1.0} {'asn': 1.0}",
    "{'anycast': True} {'asn': 2}",
], "the behaviour changed"
PYTHON
