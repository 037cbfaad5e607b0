"""The methods over a real socket, and clients that misbehave."""

from __future__ import annotations

from control_fake import FLOW, STATUS, Running

from trafficmond.control.client import Client


def test_status_comes_back_whole(running: Running) -> None:
    with Client(str(running.path)) as client:
        assert client.call("Status") == STATUS


def test_flows_stream_in_pages(running: Running) -> None:
    running.view.flow_rows = 1_234
    with Client(str(running.path)) as client:
        pages = [reply["rows"] for reply in client.stream("Flows", limit=10_000)]
        assert [len(page) for page in pages] == [500, 500, 234]
        assert pages[0][0] == FLOW
        assert len(client.call("Flows", limit=10_000)["rows"]) == 1_000
