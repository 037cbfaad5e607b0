"""What the program `ra` itself writes of a capture is the capture, whichever of its forms is asked for."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captures import ethernet, ipv4, pcap, tcp
from readings import Reading

from trafficmond.analyze import sorting
from trafficmond.analyze.run import analyze
from trafficmond.config.settings import Settings

CLIENT, SERVER = "192.0.2.1", "198.51.100.2"
SIDES = "+dur,spkts,dpkts,sbytes,dbytes"


def frame(flags: int, *, back: bool = False, payload: bytes = b"") -> bytes:
    ends = (SERVER, CLIENT) if back else (CLIENT, SERVER)
    ports = (22, 40000) if back else (40000, 22)
    return ethernet(ipv4(tcp(*ports, flags, payload), src=ends[0], dst=ends[1]))


def session(at: float) -> bytes:
    """One connection of three minutes, with a packet each way every three seconds."""
    times = itertools.count()
    opening = [frame(0x02), frame(0x12, back=True), frame(0x10)]
    talk = [frame(0x18, back=back, payload=b"x" * 50) for _ in range(60) for back in (False, True)]
    closing = [frame(0x11), frame(0x11, back=True), frame(0x10)]
    return pcap([(at + 1.5 * next(times), each) for each in (*opening, *talk, *closing)])


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Argus records of the session, which lasts over midnight (UTC)."""
    if not (shutil.which("argus") and shutil.which("ra")):
        pytest.skip("needs argus and ra; run: apt install argus-server argus-client")
    folder = tmp_path_factory.mktemp("argus")
    (folder / "pcap").write_bytes(session(1_700_006_300.25))
    subprocess.run(["argus", "-r", folder / "pcap", "-w", folder / "argus"], check=True, capture_output=True)
    return folder / "argus"


def flows(path: Path) -> list[tuple[Any, ...]]:
    found = analyze([str(path)], Settings(), 0.0)
    assert found["damage"]["total"] == 0, found["damage"]
    names = ("src_ip", "src_port", "dst_ip", "dst_port", "packets", "bytes")
    return [tuple(flow[name] for name in names) for flow in found["flow_analysis"]["top_flows"]]


CLOCKS = ["%s.%f", "%c", "%a %b %d %T.%f %Y", "%H:%M:%S.%f", "%Y/%m/%d.%T.%f", "%d/%m/%Y %T.%f", "%b %d %Y %T"]


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("form", [("-c", ","), ("-Z", "b", "-c", ";")], ids=["names of states", "flags"])
def test_a_connection_of_many_records_is_one_flow(
    clock: str, form: tuple[str, ...], records: Path, tmp_path: Path
) -> None:
    """Argus reports it every five seconds. Names of states do not tell where it began; some clocks have no date."""
    (tmp_path / "rarc").write_text(f'RA_TIME_FORMAT="{clock}"\n')
    command = ["ra", "-F", str(tmp_path / "rarc"), "-r", str(records), "-n", *form, "-s", SIDES]
    out = subprocess.run(command, check=True, capture_output=True, env={"TZ": "UTC", "PATH": "/usr/bin:/bin"}).stdout
    assert out.count(b"tcp") > 10
    (tmp_path / "ra").write_bytes(out)
    (tmp_path / "pcap").write_bytes((records.parent / "pcap").read_bytes())
    assert flows(tmp_path / "ra") == flows(tmp_path / "pcap") == [(CLIENT, 40000, SERVER, 22, 126, 12804)]


NAMES = "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,SrcPkts,DstPkts,SrcBytes,DstBytes\n"


def test_connections_that_stay_open_are_remembered_up_to_a_number(
    monkeypatch: pytest.MonkeyPatch, reading: Reading
) -> None:
    monkeypatch.setattr("trafficmond.analyze.duplicates.OPEN_MAX", 2)
    line = "{},1,tcp,192.0.2.1,{},->,192.0.2.2,22,{},5,5,400,400\n"
    told = [(1, "CON"), (2, "CON"), (1, "CON"), (3, "CON"), (1, "FIN"), (2, "CON")]
    content = NAMES + "".join(line.format(1_700_000_000 + at, port, state) for at, (port, state) in enumerate(told))
    rows, stats = reading(content.encode())
    opened = sorted(rows["sport"][(rows["first_flags"] == 0x02) & (rows["dport"] == 22)].tolist())
    assert (opened, stats.parse_errors.total) == ([1, 2, 2, 3], 0)


def test_a_connection_begins_once_however_its_records_are_sorted(reading: Reading) -> None:
    """As `rasort -m dur` writes them; and in quotes, as with RA_FIELD_QUOTED."""
    line = "{},1,tcp,192.0.2.1,40000,->,192.0.2.2,22,{},5,5,400,400\n"
    told = [line.format(1_700_000_000 + 5 * at, state) for at, state in enumerate(("CON", "CON", "CON", "FIN"))]
    content = NAMES + "".join(told[at] for at in (2, 3, 0, 1))
    quoted = "".join("'" + each.replace(",", "','") + "'\n" for each in content.splitlines())
    for text in (content, quoted):
        rows, stats = reading(text.encode())
        opened = rows["first"][(rows["first_flags"] == 0x02) & (rows["dport"] == 22)].tolist()
        assert (opened, stats.parse_errors.total) == ([1_700_000_000.0], 0)


def test_records_newest_first_that_fill_a_temporary_file(monkeypatch: pytest.MonkeyPatch, reading: Reading) -> None:
    """None of them continues a connection: what is read back from the disk cannot be changed."""
    monkeypatch.setattr(sorting, "RUN", 64)
    line = "{},1,tcp,192.0.2.1,{},->,192.0.2.2,22,FIN,5,5,400,400\n"
    content = NAMES + "".join(line.format(1_700_000_000 - at, 1024 + at) for at in range(128))
    rows, stats = reading(content.encode())
    assert (len(np.unique(rows["sport"])), stats.parse_errors.total) == (129, 0)


def test_times_without_a_date_go_on_after_midnight(reading: Reading) -> None:
    hours = ["21:00:00.5", "23:59:59.5", "23:59:58.5", "00:00:01.5", "11:00:00.5", "22:00:00.5", "01:00:00.5"]
    lines = (f"{hour},0,udp,192.0.2.1,{at},->,192.0.2.2,53,INT,1,0,60,0\n" for at, hour in enumerate(hours))
    rows, _ = reading((NAMES + "".join(lines)).encode())
    times = rows["first"][rows["sport"].argsort()]
    assert (times - times[0]).tolist() == [0, 10799, 10798, 10801, 50400, 90000, 100800]


def test_default_columns_between_tabs_are_no_table(reading: Reading) -> None:
    """`ra -c '\\t'` names the same columns as the table of plain `ra`, in which blanks separate and flags may lack."""
    names = "StartTime\tFlgs\tProto\tSrcAddr\tSport\tDir\tDstAddr\tDport\tTotPkts\tTotBytes\tState\n"
    line = "02/13.14:34:38.788187\t e        \ttcp\t192.0.2.1\t40000\t   ->\t192.0.2.2\t443\t10\t800\tFIN\n"
    rows, stats = reading((names + line + " Totalrecords 1  TotalManRecords 0  TotalPkts 10\n").encode())  # `ra -A`
    assert stats.parse_errors.total == 0
    assert int(rows["packets"].sum()) == 10
    assert {(int(row["sport"]), int(row["dport"])) for row in rows} == {(40000, 443), (443, 40000)}
