"""IPFIX read back by other people's collectors: nfdump's nfcapd and pmacct's nfacctd, over loopback."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from export_reports import NAMES, every_kind, totals

from trafficmond.config.streams import Export
from trafficmond.export.exports import ExportSet
from trafficmond.export.ipfix import Stream, parts
from trafficmond.flows.batch import Batch

pytestmark = pytest.mark.timeout(120)

_NFACCTD = """\
daemonize: false
nfacctd_ip: 127.0.0.1
nfacctd_port: {port}
plugins: print[out]
aggregate[out]: src_host, dst_host, src_port, dst_port, proto, vlan
print_output[out]: json
print_output_file[out]: {home}/out.json
print_output_file_append[out]: true
print_refresh_time[out]: 1
print_cache_entries[out]: 16411
plugin_pipe_size: 10240000
plugin_buffer_size: 1024
"""


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], home: Path, package: str, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """A collector that has said `ready`, interrupted at the end."""
    if not shutil.which(command[0]):
        pytest.skip(f"needs {command[0]}; run: apt-get install {package}")
    log = home / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
    try:
        wait(lambda: ready in log.read_text(), lambda: log.read_text()[-500:])
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def wait(condition: Callable[[], bool], told: Callable[[], str] = str, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.1)


def export(rows: Batch, port: int, *, biflow: bool) -> None:
    """All rows, over UDP, from an exporter of its own."""
    to = f"ipfix+udp://127.0.0.1:{port}"
    exports = ExportSet([Export(to=to, biflow=biflow, max_rate=1000, template_interval=1)], Path("/"))
    exports.put(rows, NAMES)
    wait(lambda: exports.status()[0]["sent"] == len(rows), lambda: str(exports.status()))
    exports.finish(time.monotonic())
    exports.join(time.monotonic() + 1)
    assert exports.status() == [{"to": to, "sent": len(rows), "queue": 0, "lost": 0, "error": "", "threats": None}]


def nfdump_packets(text: str) -> Counter[str]:
    """Packets by protocol in nfdump's csv, in the form of 1.7.1 or in that of 1.7.5 and later."""
    found = Counter[str]()
    for row in csv.DictReader(io.StringIO(text)):
        if (row.get("ipkt") or "").isdigit():
            found[row["pr"]] += int(row["ipkt"]) + int(row["opkt"])
        elif (row.get("packets") or "").isdigit():
            found[row["proto"]] += int(row["packets"])
    return found


def test_both_forms_of_nfdumps_csv_are_read() -> None:
    old = "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt\na,b,1,x,y,1,2,TCP,.,0,0,3,180,4,240\nSummary\n"
    new = (
        "firstSeen,duration,proto,srcAddr,srcPort,dstAddr,dstPort,packets,bytes,flows\n"
        "2026-01-31 10:00:00.000,1.000,TCP,192.0.2.1,1024,192.0.2.2,443,3,180,1\n"
        "2026-01-31 10:00:00.000,1.000,TCP,192.0.2.2,443,192.0.2.1,1024,4,240,1\n"
    )
    assert nfdump_packets(old) == nfdump_packets(new) == {"TCP": 7}


@pytest.mark.parametrize("biflow", [False, True])
def test_nfdump_has_the_same_totals(biflow: bool, tmp_path: Path) -> None:
    rows, port, flows = every_kind(300), free_port(), tmp_path / "flows"
    flows.mkdir()
    command = ["nfcapd", "-w", str(flows), "-b", "127.0.0.1", "-p", str(port), "-t", "3600"]
    with running(command, tmp_path, "nfdump", "Startup nfcapd"):
        export(rows, port, biflow=biflow)
        time.sleep(0.5)
    log = (tmp_path / "log").read_text()
    assert "Sequence Errors: 0, Bad Packets: 0" in log
    (file,) = flows.glob("nfcapd.*")
    info = subprocess.check_output(["nfdump", "-r", str(file), "-I"], text=True)
    sums = {name: int(count) for name, count in re.findall(r"^(\w+): (\d+)$", info, re.MULTILINE)}
    wanted = totals(rows)
    assert sums["Packets"] == wanted["packets"] + wanted["reply_packets"]
    assert sums["Bytes"] == wanted["bytes"] + wanted["reply_bytes"]
    text = subprocess.check_output(["nfdump", "-r", str(file), "-N", "-o", "csv"], text=True)
    by_protocol = nfdump_packets(text)
    if biflow and "ipkt" not in text:
        return  # of which 1.7.5 and later write the initiator's half alone
    for name, number in (("TCP", 6), ("UDP", 17), ("ICMP", 1), ("ICMP6", 58)):
        chosen = totals(rows[rows["proto"] == number])
        assert by_protocol[name] == chosen["packets"] + chosen["reply_packets"], name


def test_pmacct_has_the_same_totals(tmp_path: Path) -> None:
    rows, port = every_kind(150), free_port()
    config = tmp_path / "nfacctd.conf"
    config.write_text(_NFACCTD.format(port=port, home=tmp_path))
    out = tmp_path / "out.json"

    def told() -> list[dict[str, object]]:
        lines = out.read_text().splitlines() if out.exists() else []
        return [json.loads(line) for line in lines if line.startswith("{")]

    with running(["nfacctd", "-f", str(config)], tmp_path, "pmacct", "setting object handlers"):
        # What comes before its plugins are up it throws away: one message again and again, until it shows.
        probe = every_kind(1)[:1]
        probe["dport"], probe["reply_packets"] = 9, 0
        stream = Stream(99)
        (part,) = parts(probe, 1452, biflow=False)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:

            def answered() -> bool:
                for message in (*stream.templates(1452, time.time()), stream.message(part.sets, 1, time.time())):
                    sock.sendto(message, ("127.0.0.1", port))
                time.sleep(0.5)
                return bool(told())

            wait(answered, (tmp_path / "log").read_text)
        export(rows, port, biflow=False)
        wanted = totals(rows)

        def packets() -> int:
            return sum(int(str(row["packets"])) for row in told() if row["port_dst"] != 9)

        # Its plugin is given the last of them when it ends.
        wait(
            lambda: packets() > 0.9 * (wanted["packets"] + wanted["reply_packets"]), lambda: f"{packets()} of {wanted}"
        )
        time.sleep(0.5)
    assert packets() == wanted["packets"] + wanted["reply_packets"]
    octets = sum(int(str(row["bytes"])) for row in told() if row["port_dst"] != 9)
    assert octets == wanted["bytes"] + wanted["reply_bytes"]
    assert "100" in {str(row["vlan"]) for row in told()}
    assert "2001:db8::1" in {row["ip_src"] for row in told()}


@pytest.mark.parametrize(("transport", "flag"), [("udp", "-u"), ("tcp", "-T")])
def test_wireshark_finds_nothing_wrong(transport: str, flag: str, tmp_path: Path) -> None:
    """Neither collector above reads TCP; Wireshark reads both, follows the sequence and complains about what is odd."""
    for command in ("tshark", "text2pcap"):
        if not shutil.which(command):
            pytest.skip(f"needs {command}; run: apt-get install tshark")
    rows, stream = every_kind(30), Stream(7)
    messages = stream.templates(1452, 1.7e9)
    for biflow in (False, True):
        messages += [stream.message(part.sets, part.records, 1.7e9) for part in parts(rows, 1452, biflow=biflow)]
    dump, capture = tmp_path / "hex", tmp_path / "pcap"
    lines = (
        "\n".join(f"{at:06x} {message[at : at + 16].hex(' ')}" for at in range(0, len(message), 16))
        for message in messages
    )
    dump.write_text("\n\n".join(lines) + "\n")
    subprocess.run(["text2pcap", "-q", flag, "4739,4739", str(dump), str(capture)], check=True, capture_output=True)
    command_line = ["tshark", "-r", str(capture), "-d", f"{transport}.port==4739,cflow", "-V"]
    text = subprocess.run(command_line, check=True, capture_output=True, text=True, timeout=60).stdout
    assert len(re.findall(r"^ +Flow \d+$", text, re.MULTILINE)) == stream.sequence
    assert not re.search("malformed|unexpected flow|no template found", text, re.IGNORECASE)
    octets = sum(map(int, re.findall(r"^ +Octets: (\d+)", text, re.MULTILINE)))
    wanted = totals(rows)
    assert octets == 2 * (wanted["bytes"] + wanted["reply_bytes"])
