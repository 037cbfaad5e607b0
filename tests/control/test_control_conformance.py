"""The reference implementation's client and command line speak with our server."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
import varlink
from control_fake import Running
from control_replies import CONTROL, STATUS

from trafficmond.control import idl
from trafficmond.flows.batch import split_address
from trafficmond.flows.events import EVENT
from trafficmond.flows.names import NO_NAMES
from trafficmond.model import Action
from trafficmond.sinks.watched import EventRecords


def test_introspection(running: Running) -> None:
    with varlink.Client.new_with_address(f"unix:{running.path}") as client:
        info = client.get_interfaces()
        assert set(info) == {"org.varlink.service", "io.trafficmon"}
        with client.open("org.varlink.service") as service:
            told = service.GetInfo()
            assert told["product"] == "trafficmond"
            assert told["version"] == "0.2.0"
            description = service.GetInterfaceDescription("io.trafficmon")["description"]
            assert description == idl.load("io.trafficmon").text
            with pytest.raises(varlink.VarlinkError) as error:
                service.GetInterfaceDescription("org.nowhere")
            assert error.value.error() == "org.varlink.service.InterfaceNotFound"


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def test_a_call_and_an_error(running: Running) -> None:
    with varlink.Client.new_with_address(f"unix:{running.path}") as client, client.open("io.trafficmon") as daemon:
        told = daemon.Status()
        assert set(told.pop("control")) == set(CONTROL)
        assert told == without_nulls(STATUS)  # its client leaves out what is null
        assert daemon.AddCidr(cidr="192.0.2.0/24", action="monitor")["rule"]["action"] == "monitor"
        with pytest.raises(varlink.VarlinkError) as error:
            daemon.RemoveCidr("198.51.100.0/24")
        assert error.value.error() == "io.trafficmon.NotFound"
        assert error.value.parameters()["hint"]


def test_more_streams_pages(running: Running) -> None:
    running.canned.flow_rows = 1_200
    with varlink.Client.new_with_address(f"unix:{running.path}") as client, client.open("io.trafficmon") as daemon:
        pages = [len(reply["rows"]) for reply in daemon.Flows(limit=5_000, _more=True)]
    assert pages == [500, 500, 200]


def test_watch_streams_events(running: Running) -> None:
    publish = threading.Thread(target=publish_when_watched, args=(running,))
    publish.start()
    with varlink.Client.new_with_address(f"unix:{running.path}") as client, client.open("io.trafficmon") as daemon:
        replies = daemon.Watch(topics=["events"], action="drop", _more=True)
        first = next(replies)
        assert first["topic"] == "events"
        assert [record["src_ip"] for record in first["records"]] == ["203.0.113.5"]
    publish.join(5)


def publish_when_watched(running: Running) -> None:
    for _ in range(500):
        if running.do(running.broadcast.wants, "events"):
            break
        time.sleep(0.01)
    batch = np.zeros(2, EVENT)
    batch["family"], batch["dst_lo"], batch["verdict"] = (
        4,
        address("192.0.2.2"),
        [Action.MONITOR << 28, Action.DROP << 28],
    )
    batch["src_lo"] = [address("192.0.2.1"), address("203.0.113.5")]
    running.do(running.broadcast.publish_source, "events", EventRecords(batch, NO_NAMES))


def address(text: str) -> int:
    return split_address(ipaddress.ip_address(text).packed)[1]


def test_oneway_is_done_and_not_answered(running: Running) -> None:
    with varlink.Client.new_with_address(f"unix:{running.path}") as client, client.open("io.trafficmon") as daemon:
        assert daemon.AddCidr("192.0.2.0/24", _oneway=True) is None
        assert daemon.Version() == {"version": "0.2.0"}  # the next reply belongs to the next call
    assert "192.0.2.0/24" in running.canned.runtime


def command_line(*arguments: str) -> str:
    command = [sys.executable, "-m", "varlink.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout


def test_systemds_own_client(running: Running) -> None:
    if not shutil.which("varlinkctl"):
        pytest.skip("needs varlinkctl, of systemd 255 and later")

    def varlinkctl(*arguments: str) -> str:
        command = ["varlinkctl", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    address = f"unix:{running.path}"
    assert "trafficmond" in varlinkctl("info", address)
    assert "method AddCidr" in varlinkctl("introspect", address, "io.trafficmon")
    assert json.loads(varlinkctl("call", "-j", address, "io.trafficmon.Version", "{}")) == {"version": "0.2.0"}
    streamed = varlinkctl("call", "-j", "--more", address, "io.trafficmon.Flows", '{"limit": 3}')
    assert "203.0.113.5" in streamed


def test_the_command_line(running: Running) -> None:
    address = f"unix:{running.path}"
    assert "io.trafficmon" in command_line("info", address)
    assert "method AddCidr(" in command_line("help", f"{address}/io.trafficmon")
    told = json.loads(command_line("call", f"{address}/io.trafficmon.Status"))
    assert set(told.pop("control")) == set(CONTROL)
    assert told == STATUS
    running.canned.flow_rows = 600
    streamed = command_line("call", "-m", f"{address}/io.trafficmon.Flows", '{"limit": 600}')
    assert streamed.count('"sql"') == 2
