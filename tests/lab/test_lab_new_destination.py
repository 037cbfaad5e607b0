"""A service that calls where it has never called: learnt by one daemon, told by the next."""

from __future__ import annotations

import pytest
from cgrouped import TREE, Services
from tmlab import Daemon, Lab

from trafficmond.learned import LEARNED_NAME, packed, unpacked

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(TREE is None, reason="needs a tree of cgroup2: mount -t cgroup2 none /sys/fs/cgroup/unified"),
]
DAY = 86400.0
KNOWN, NEW = "203.0.113.7", "198.51.100.9"


def test_a_new_destination_is_reported_after_the_time_of_learning_and_a_restart(lab: Lab) -> None:
    for address in (KNOWN, NEW):
        lab.outside.ip(f"address add {address}/32 dev lo")
        lab.host.ip(f"route add {address}/32 via {lab.links[0].outside_ip}")
    with Services(lab) as services, Daemon(lab, '[policy]\ndefault = "monitor"\n') as daemon:
        services.run("backup.service", "udp", KNOWN, 6000, 3)
        daemon.wait(lambda: _units(daemon) == 1, "a unit that is learnt")
        daemon.stop()
        file = daemon.home / "state" / LEARNED_NAME
        learned = unpacked(file.read_bytes())
        learned["new_destination.entities"]["row"]["heard"] += 8 * DAY  # as if they had been watched since
        file.write_bytes(packed(learned))

        daemon.start()
        services.run("backup.service", "udp", KNOWN, 6000, 3)
        services.run("backup.service", "udp", NEW, 6000, 3)
        daemon.wait(lambda: bool(daemon.ask("threats", "--detector", "new_destination")), "the note")
        (threat,) = daemon.ask("threats", "--detector", "new_destination")
        assert (threat["severity"], threat["dst_ip"]) == ("low", NEW)
        assert threat["summary"].startswith(
            f"backup.service connected to {NEW} port 6000/udp for the first time in 8 days"
        )


def _units(daemon: Daemon) -> int:
    (tables,) = (each for each in daemon.status()["detectors"] if each["name"] == "new_destination")
    return int(tables["entities"])
