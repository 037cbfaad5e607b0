"""An interface that is shared with xdp-filter through libxdp: switched on and off, by the units as they are shipped."""

from __future__ import annotations

import json
import re

from host import INSTALL, PEER, RULES, SETTINGS, Host, must, soon

OURS, THEIRS = "tm_xdp", "xdpfilt_alw_all"
_ALONE = f"cp -p {SETTINGS}.before {SETTINGS} && systemctl restart trafficmond"
_SHARED = f'printf \'[[interface]]\\nname = "uplink"\\nxdp_share = "libxdp"\\n\' >>{SETTINGS}'
_SHARED += " && systemctl start trafficmon-share.socket && systemctl restart trafficmond"


def asks_to_share(host: Host) -> str:
    """xdp_share: the privileged step, in its sandbox, shares the interface, or says that this kernel cannot"""
    host.run(f"{INSTALL} xdp-tools")
    host.run(f"cp -p {SETTINGS} {SETTINGS}.before && {_SHARED}")
    (watched,) = host.json("status")["interfaces"]
    if watched["dispatcher"] is not None:
        said = _beside_xdp_filter(host)
    else:
        (said,) = (each for each in host.json("status")["warnings"] if "not shared" in each)
        must("this kernel refuses" in said, "no reason but this kernel's", said)
    must(host.ping() == 3, "pings answered", "not all")
    journal = host.run("journalctl -q --no-pager -o cat -t trafficmon-share").stdout
    must("Permission denied" not in journal and "Traceback" not in journal, "nothing that its sandbox forbids", journal)
    host.run(_ALONE)
    (watched,) = host.json("status")["interfaces"]
    must(watched["dispatcher"] is None and not host.json("status")["warnings"], "alone again, without a word", watched)
    host.run(f"rm {SETTINGS}.before; systemctl stop trafficmon-share.socket")
    return said


def _beside_xdp_filter(host: Host) -> str:
    """What it drops stays dropped while another program comes and goes, and the daemon is restarted; a stop leaves the
    other alone in the dispatcher; and off and on again."""
    rule = f"{RULES}/30-gap.toml"
    host.run(f'printf \'[[rule]]\\ncidr = "{PEER}"\\naction = "drop"\\n\' >{rule} && trafficctl reload')
    said = [agree(host, OURS)]
    for command, chain in (
        ("xdp-filter load uplink", (OURS, THEIRS)),
        ("systemctl restart trafficmond", (OURS, THEIRS)),
        ("systemctl stop trafficmond", (THEIRS,)),
        ("systemctl start trafficmond", (OURS, THEIRS)),
        ("xdp-filter unload uplink", (OURS,)),
        (_ALONE, ()),
        (_SHARED, (OURS,)),
    ):
        host.run(command)
        said.append(f"{command.rpartition('&& ')[2]}: {agree(host, *chain)}")
        must((host.ping() == 0) is (OURS in chain or not chain), "dropped by what is attached", f"otherwise: {said}")
    host.run(f"rm {rule} && trafficctl reload")
    return "\n".join(said)


def agree(host: Host, *names: str) -> str:
    """`names` are what the dispatcher runs: so say xdp-loader, status and doctor, in a moment. Returns the first's."""
    told: list[str] = []

    def by_xdp_loader() -> bool:
        text = host.run("xdp-loader status uplink").stdout
        told[:] = [*re.findall(r"xdp_dispatcher +\w+ +(\d+)", text), *re.findall(r"=> +\d+ +(\w+)", text)]
        return told[1:] == list(names)

    soon(by_xdp_loader, f"xdp-loader to name {names}", 20)
    if OURS in names or not names:
        soon(lambda: _by_status(host) == told, f"status to name {told}", 20)
        checks = json.loads(host.run("trafficctl -o json doctor", check=False).stdout)
        (attached,) = (each["what"] for each in checks if each["what"].startswith("trafficmon is attached"))
        chain = attached.partition("libxdp: ")[2].split(", ") if names else []
        must([each.split()[1] for each in chain] == list(names), f"doctor to name {names}", attached)
    return " ".join(told) or "no dispatcher"


def _by_status(host: Host) -> list[str]:
    (row,) = host.json("status")["interfaces"]
    return [str(row["dispatcher"]), *(each.split()[1] for each in row["chain"])] if row["chain"] else []


def is_purged_beside(host: Host) -> str:
    """apt purge while the interface is shared: the other program is alone in the dispatcher, nothing of ours is left"""
    host.run(f"{_SHARED} && xdp-filter load uplink")
    agree(host, OURS, THEIRS)
    host.run("apt-get purge -y -q trafficmon")
    failed = host.run("systemctl list-units --failed --plain --no-legend --no-pager 'trafficmon*'").stdout
    must(not failed, "no unit that failed on the way", failed)
    left = host.run("find /sys/fs/bpf /var/lib /usr/lib -iname '*trafficmon*' -not -path '*/apt/*'").stdout
    must(not left, "nothing left", left)
    return agree(host, THEIRS)
