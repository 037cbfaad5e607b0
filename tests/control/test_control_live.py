"""The real daemon in a laboratory answers every method as described, and trafficctl shows every answer."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from tmlab import Daemon, Lab, Sender
from tmlab.packets import udp

from trafficmond.control import idl
from trafficmond.errors import ControlError

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

INTERFACE = idl.load("io.trafficmon")
STRANGER = "203.0.113.7"
RULES = """
[[rule]]
cidr = "203.0.113.0/24"
action = "monitor"
label = "neighbours"

[[rule]]
cidr = "192.0.2.0/24"
action = "limit"
limit = "100/s"
direction = "both"
"""


def asked(daemon: Daemon, method: str, **parameters: Any) -> dict[str, Any]:
    """A checked reply."""
    with daemon.client() as client:
        reply = client.call(method, **parameters)
    INTERFACE.check(INTERFACE.methods[method].gives, reply)
    return reply


def refused(daemon: Daemon, method: str, **parameters: Any) -> str:
    with pytest.raises(ControlError) as refusal, daemon.client() as client:
        client.call(method, **parameters)
    return refusal.value.name


def test_every_method_as_described() -> None:
    with (
        Lab() as lab,
        Daemon(lab, '[flows]\ninterval = "100ms"\nidle_timeout = "2s"\n', rules={"10.toml": RULES}) as daemon,
    ):
        link = lab.links[0]
        sender = Sender(lab.outside, link.outside)
        with daemon.client() as watcher:
            watching = threading.Timer(
                0.5, sender.send, [[udp(STRANGER, link.host_ip, payload=b"hello")] * 5]
            )  # once Watch is being answered
            watching.start()
            reply = next(watcher.stream("Watch", topics=["events"], host=STRANGER))
            watching.join()
            INTERFACE.check(INTERFACE.methods["Watch"].gives, reply)
            assert {record["src_ip"] for record in reply["records"]} == {STRANGER}

        rules = asked(daemon, "Rules")["rules"]
        assert "neighbours" in {rule["label"] for rule in rules}
        assert asked(daemon, "Rules", within="203.0.113.0/25")["rules"]
        added = asked(daemon, "AddCidr", cidr="198.51.100.0/24", label="x", ttl_s=60, save=True)["rule"]
        assert (added["cidr"], added["action"], added["label"]) == ("198.51.100.0/24", "drop", "x")
        asked(daemon, "AddCidr", cidr="2001:db8:1::/48", action="limit", rate_per_s=10, direction="both")
        assert len(asked(daemon, "RemoveCidr", cidr="198.51.100.0/24", save=True)["removed"]) == 1
        assert refused(daemon, "RemoveCidr", cidr="198.51.100.0/24") == "io.trafficmon.NotFound"
        assert refused(daemon, "AddCidr", cidr="nonsense") == "io.trafficmon.Invalid"
        assert refused(daemon, "AddCidr", cidr="192.0.2.1/32", action="dance") == "io.trafficmon.Invalid"
        assert asked(daemon, "Reload")["generation"] >= 2

        flows = asked(daemon, "Flows", host=STRANGER)
        assert sum(row["packets"] for row in flows["rows"]) == 5
        assert flows["columns"] == list(flows["rows"][0])
        grouped = asked(daemon, "Flows", group_by=["src_ip"], sort="bytes")
        assert STRANGER in {row["src_ip"] for row in grouped["rows"]}
        assert asked(daemon, "Flows", sql_only=True)["rows"] == []
        assert refused(daemon, "Flows", sort="nonsense") == "io.trafficmon.Invalid"

        banned = asked(daemon, "Ban", cidr="203.0.113.9/32", ttl_s=60, reason="why")["ban"]
        assert banned["reason"] == "why"
        assert [ban["cidr"] for ban in asked(daemon, "Bans")["bans"]] == ["203.0.113.9/32"]
        assert asked(daemon, "Explain", address="203.0.113.9")["action"] == "drop"
        assert asked(daemon, "Unban", cidr="203.0.113.0/24")["lifted"]
        assert refused(daemon, "Unban", cidr="203.0.113.0/24") == "io.trafficmon.NotFound"
        assert asked(daemon, "Explain", address=STRANGER)["packets"] == 5
        asked(daemon, "Explain", address="2001:db8::1", direction="egress")

        asked(daemon, "Threats")
        assert refused(daemon, "Threat", id="none") == "io.trafficmon.NotFound"
        assert asked(daemon, "Top", limit=5)["interfaces"]
        assert asked(daemon, "Metrics")["text"].endswith("# EOF\n")
        changes = {entry["change"] for entry in asked(daemon, "Audit")["entries"]}
        assert changes == {"add-cidr", "remove-cidr", "ban", "unban"}  # a reload that changes nothing is no change
        status = asked(daemon, "Status")
        assert status["version"] == asked(daemon, "Version")["version"]
        account = status["accounting"]
        parts = [account[key] for key in ("in_flows", "unattributed", "not_ip", "malformed", "pending")]
        for unit in ("packets", "bytes"):
            assert account["seen"][unit] == sum(part[unit] for part in parts)

        daemon.wait(lambda: daemon.sql("SELECT count(*) FROM flows")[0][0], "rows for the report", 20)
        for command in SHOWN:
            for form in ("human", "json", "csv"):
                done = daemon.control(*command, "-o", form)
                assert done.stdout.strip(), command
                if form == "json":
                    json.loads(done.stdout)


SHOWN = [
    ["status"],
    ["rules"],
    ["flows"],
    ["flows", "--group-by", "src,dport", "--sort", "bytes"],
    ["bans"],
    ["threats"],
    ["explain", STRANGER],
    ["audit"],
    ["metrics"],
    ["top", "--interval", "100ms"],
    ["version"],
    ["reload"],
    ["report"],
]
