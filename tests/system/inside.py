"""What tests/system/emulated runs in the machine that it boots: steps, whose results go to standard output as JSON."""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path

from administrator import installs_afresh, starts
from debian import Failure, Machine
from host import Host
from sharing import asks_to_share, is_purged_beside


class Here(Machine):
    """The machine that this runs in."""

    @property
    def entrance(self) -> list[str]:
        """Nothing: it is inside."""
        return []


def main() -> None:
    host = Host(Here("here", Path("/")))
    host.run("ip link set lo up")
    host.meet_neighbour()
    said: dict[str, dict[str, str]] = {}
    for step in (installs_afresh, starts, asks_to_share, is_purged_beside):
        verdict = "ok"
        try:
            text = step(host)
        except Failure as failure:
            verdict, text = "FAILED", str(failure)
        except Exception:  # noqa: BLE001 - it is reported, and the next one has its turn
            verdict, text = "BROKE", traceback.format_exc()
        if verdict != "ok":
            text += host.run("journalctl --no-pager -n 60 -u 'trafficmon*'", check=False).stdout
        said[(step.__doc__ or "").strip()] = {"verdict": verdict, "said": text.strip()}
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    main()
