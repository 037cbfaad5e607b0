"""Runs inside each kernel in place of payload.py, twice, with a disk that stays: the machine is reset in mid-probation.

Writes one JSON object to standard output, as payload.py does, and then resets the machine the first time.
"""

import json
import os
import subprocess
import sys
import termios
import time
from pathlib import Path

from payload import attempt  # first: it sets the path of imports

from kernel_rig import BAD, GOOD, SETTINGS, SLOW, START, TRIED, Rig, must  # isort: skip
from tmlab import Daemon, Lab  # isort: skip

DISK = Path("/run/state")


def probation_begins(on: Rig) -> None:
    """A saved rule, and one that nobody confirms: both are in force."""
    on.ask("AddCidr", cidr=BAD, action="drop", save=True)
    on.ask("AddCidr", cidr=TRIED, action="drop", confirm_within_s=600)
    heard = on.heard(BAD), on.heard(TRIED), on.heard(GOOD)
    must(heard == (0, 0, 5), "both dropped and others not", heard)


def confirmed_after_the_reset(on: Rig) -> None:
    """The rules that were confirmed last are in force, and the journal says what became of the others."""
    heard = on.heard(BAD), on.heard(TRIED), on.heard(GOOD)
    must(heard == (0, 5, 5), "only what was confirmed to be dropped", heard)
    must("ended by a reboot or a stop" in on.daemon.said(), "the end of the probation in the journal", on.daemon.said())


def main() -> None:
    DISK.mkdir(exist_ok=True)
    subprocess.run(["mount", "/dev/vdc", DISK], check=True)
    again = (DISK / "rules.toml").exists()
    with Lab() as lab:
        daemon = Daemon(lab, SETTINGS)
        (daemon.home / "state").symlink_to(DISK)
        daemon.patience_s = SLOW
        daemon.start(START["libbpf"])
        check = confirmed_after_the_reset if again else probation_begins
        checks = {check.__name__.replace("_", " "): attempt(check, Rig(lab, daemon))}
        json.dump({"release": os.uname().release, "features": {}, "checks": checks}, sys.stdout)
        sys.stdout.flush()
        if not again:
            termios.tcdrain(sys.stdout)
            Path("/proc/sysrq-trigger").write_text("b")
            time.sleep(60)  # the reset comes at once
        daemon.remove()


if __name__ == "__main__":
    main()
