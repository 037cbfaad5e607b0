"""The long proof, as root: whatever kills and replaces the daemon, every packet is judged and every packet is counted.

    sudo env PYTHONPATH=tests/lab:. .venv/bin/python tests/soak/soak.py [--packets N] [--kills N] [--daemons N]

1. N packets of which each opens a new flow, at a running daemon: seen = in flows + unattributed + not IP + malformed,
   packets and bytes, and flows.db holds what is in flows.
2. N SIGKILLs and N upgrades under traffic that is all to be dropped: nothing gets through, nothing is missing from the
   account.

An upgrade is a fresh load of the programs that takes the place of the running ones by a link update. A whole daemon
would spend most of a second on other things each time, so the lives in part 2 are of the data path alone (load, rules,
attach, read the ledger, in a process of its own), between some of whole daemons. One is killed at a random moment of
its loading, the next when it has taken over and reads the ledger, and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from stack import ipv4_received
from tmlab import Daemon, Flood, Lab
from tmlab.daemon import PYTHON, ROOT

from trafficmond.datapath import interfaces
from trafficmond.datapath.datapath import Datapath
from trafficmond.datapath.loading import Options
from trafficmond.policy.ids import RuleIds
from trafficmond.policy.load import Files, make_policy
from trafficmond.policy.table import compile_table

SOURCES = "198.18.0.0/15"
SETTINGS = """
on_stop = "keep"
[flows]
interval = "200ms"
idle_timeout = "1s"
capacity = {capacity}
"""
CAPACITY = 4096
_KILLS = int(os.environ.get("TRAFFICMON_KILLS", "1000"))
_TAKES_OVER_S = 60.0  # at most, on a machine with other work
_READS_S = 0.02


class Wrong(Exception):
    """A figure is not what it must be."""


@dataclass
class Lives:
    """What became of the lives in part 2."""

    kills: int = 0
    upgrades: int = 0


def main() -> int:
    """Exit code 1 if a single packet is amiss."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--packets", type=int, default=10_000_000, help="packets that each open a flow")
    parser.add_argument("--kills", type=int, default=_KILLS, help="SIGKILLs and upgrades")
    parser.add_argument("--daemons", type=int, default=20, help="how many of them are of whole daemons")
    parser.add_argument("--lives", metavar="PINS", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--interface", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.lives:
        print(json.dumps(asdict(live_and_die(arguments.lives, arguments.interface, arguments.kills))))
        return 0
    try:
        every_packet_a_flow(arguments.packets)
        kills_and_upgrades(arguments.kills, arguments.daemons)
    except Wrong as wrong:
        print(f"WRONG  {wrong}")
        return 1
    return 0


def must(holds: bool, what: str, **figures: object) -> None:
    """Prints figures that are as they must be. Raises Wrong with those that are not."""
    text = f"{what}: {', '.join(f'{name} {value:,}' for name, value in figures.items())}".replace("_", " ")
    if not holds:
        raise Wrong(text)
    print(f"ok     {text}", flush=True)


# ---- part 1 ----


def every_packet_a_flow(packets: int) -> None:
    """Conservation in a flood of flows."""
    settings = SETTINGS.format(capacity=65536)
    with (
        Lab(quiet=True) as lab,
        Daemon(lab, settings) as daemon,
        Flood(lab, lab.links[0], "64.0.0.0/2") as flood,
    ):
        began = time.monotonic()
        flood.deliver(packets)
        took = time.monotonic() - began
        settled = account(daemon, packets)
        rest = sum_of(settled, "in_flows", "unattributed", "not_ip", "malformed")
        total = (packets, packets * flood.frame_bytes)
        must(
            rest == total == (settled["seen"]["packets"], settled["seen"]["bytes"]),
            "each packet a new flow",
            sent=packets,
            seen=settled["seen"]["packets"],
            in_flows=settled["in_flows"]["packets"],
            unattributed=settled["unattributed"]["packets"],
            not_IP=settled["not_ip"]["packets"],
            malformed=settled["malformed"]["packets"],
            bytes_difference=total[1] - rest[1],
            a_second=int(packets / took),
        )
        # The writer's queue is bounded, and a stop waits no longer than ten seconds for it.
        daemon.wait_status(lambda s: not s["flows"] and not s["store"]["queue"], "all flows stored", timeout=300)
        settled = daemon.status()["accounting"]  # later, what is unattributed may be found to have been read
        lost = daemon.status()["store"]["lost_rows"]
        daemon.stop(timeout=60)
        (stored,) = daemon.sql("SELECT sum(packets + reply_packets), sum(bytes + reply_bytes) FROM flows")
        in_flows = settled["in_flows"]["packets"], settled["in_flows"]["bytes"]
        # A disk slower than the flood costs rows, of one packet each here, and the store says how many.
        must(
            (stored[0] + lost, stored[1] + lost * flood.frame_bytes) == in_flows,
            "flows.db holds what is in flows, but for the rows that status says were lost",
            packets=stored[0],
            lost_rows=lost,
            in_flows=in_flows[0],
        )


def account(daemon: Daemon, packets: int) -> dict[str, Any]:
    """The accounting once so many packets were seen and none is under way."""

    def at_rest(status: dict[str, Any]) -> bool:
        accounting = status["accounting"]
        return bool(accounting["seen"]["packets"] >= packets and accounting["pending"] == {"packets": 0, "bytes": 0})

    found: dict[str, Any] = daemon.wait_status(at_rest, f"{packets:,} packets seen", timeout=60)["accounting"]
    return found


def sum_of(accounting: dict[str, Any], *names: str) -> tuple[int, int]:
    return sum(accounting[name]["packets"] for name in names), sum(accounting[name]["bytes"] for name in names)


# ---- part 2 ----


def kills_and_upgrades(kills: int, daemons: int) -> None:
    """No gap in the filter or in the account."""
    with (
        Lab(quiet=True) as lab,
        Daemon(lab, SETTINGS.format(capacity=CAPACITY)) as daemon,
        Flood(lab, lab.links[0], SOURCES, randomly=True) as flood,
    ):
        flood.deliver(100)
        before = account(daemon, 100)
        unfiltered = ipv4_received(lab)
        must(unfiltered == 100, "before there is a rule", sent=100, got_through=unfiltered)
        daemon.control("add-cidr", SOURCES, "--save")
        flood.start(pause_s=0.03)
        began = time.monotonic()
        lives = Lives()
        for _ in range(min(daemons, kills)):
            daemon.kill()
            daemon.start(timeout=60)
            lives.kills += 1
            lives.upgrades += 1
        daemon.kill()
        some = run_lives(lab, daemon, kills - lives.kills)
        lives.kills, lives.upgrades = lives.kills + some.kills, lives.upgrades + some.upgrades
        daemon.start(timeout=60)
        sent = flood.stop()
        took = time.monotonic() - began
        after = account(daemon, sent)
        through = ipv4_received(lab) - unfiltered
        rest = sum_of(after, "in_flows", "unattributed", "not_ip", "malformed")
        must(
            lives.kills >= kills and lives.upgrades >= kills,
            "lives",
            SIGKILLs=lives.kills,
            upgrades=lives.upgrades,
            seconds=int(took),
        )
        must(
            through == 0 and after["dropped"]["packets"] - before["dropped"]["packets"] == sent - 100,
            "zero unfiltered",
            sent=sent - 100,
            dropped=after["dropped"]["packets"] - before["dropped"]["packets"],
            got_through=through,
        )
        must(
            after["seen"]["packets"] == sent and rest == (sent, sent * flood.frame_bytes),
            "zero uncounted",
            sent=sent,
            seen=after["seen"]["packets"],
            in_flows=after["in_flows"]["packets"],
            unattributed=after["unattributed"]["packets"],
            bytes_difference=sent * flood.frame_bytes - rest[1],
        )


def run_lives(lab: Lab, daemon: Daemon, kills: int) -> Lives:
    command = [PYTHON, __file__, "--kills", str(kills), "--lives", daemon.pins, "--interface", lab.links[0].host]
    done = subprocess.run(
        lab.host.argv(*command),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'lab'}"},
    )
    if done.returncode:
        raise Wrong(f"the lives ended early: {done.stderr}")
    return Lives(**json.loads(done.stdout))


def live_and_die(pins: Path, interface: str, kills: int) -> Lives:
    """Forks one life after the other and kills it, until there were `kills` deaths and as many that had taken over."""
    lives, dice = Lives(), random.Random(1)
    typical = 0.1  # seconds that a life needs to take over
    while lives.kills < kills or lives.upgrades < kills:
        reader, writer = os.pipe()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            life(pins, interface, writer)
        os.close(writer)
        # With upgrades still to be done, every second life may take over first.
        patience = dice.uniform(0, 1.5 * typical) if lives.kills % 2 and lives.kills < kills else _TAKES_OVER_S
        if select.select([reader], [], [], patience)[0] and os.read(reader, 1):
            lives.upgrades += 1
            typical += (time.monotonic() - began - typical) / 10
            time.sleep(dice.uniform(0, _READS_S))
        elif patience == _TAKES_OVER_S:
            raise SystemExit("a life ended by itself, or did not take over")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        lives.kills += 1
    return lives


def life(pins: Path, interface: str, said: int) -> NoReturn:
    """What of the daemon touches packets: loads, installs the rules, takes the interface over, reads the ledger."""
    try:
        options = Options("libbpf", "auto", True, pins, CAPACITY, established=False, drop_malformed=False)
        datapath = Datapath(options)
        policy = make_policy(Files(), runtime=[{"cidr": SOURCES, "action": "drop"}])
        ids = RuleIds().number(policy.rules, time.time()).numbers
        datapath.tables.put(compile_table(policy, ids, time.time(), datapath.clock.to_jiffies).words)
        datapath.attach(interfaces.list_interfaces(), interfaces.Selection((interface,)))
        os.write(said, b"u")
        while True:
            datapath.read_ledger()
            time.sleep(0.001)
    except BaseException as error:  # noqa: BLE001  (a fork must not go on as its parent)
        print(repr(error), file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
