"""What the unit forbids as shipped, and the drop-ins of the package's examples allow."""

from __future__ import annotations

from host import HERE, INSTALL, SETTINGS, Host, count_pings, must, without_a_gap

DROP_INS = "/etc/systemd/system/trafficmond.service.d"


def _restart(drop_in: str = "", settings: str = "") -> str:
    """The command that restarts the daemon with a drop-in and nothing but these settings, or again as shipped."""
    if not drop_in:
        change = f"rm -r {DROP_INS} && mv /root/settings.toml {SETTINGS}"
    else:
        example = f"/usr/share/doc/trafficmon/examples/{drop_in}.conf"
        change = f"cp {SETTINGS} /root/settings.toml && install -D -m 644 {example} {DROP_INS}/{drop_in}.conf"
        change += f" && printf '%s\\n' '{settings}' >{SETTINGS}"
    return f"{change} && systemctl daemon-reload && systemctl restart trafficmond"


def compiles_on_start(host: Host) -> str:
    """loader = "bcc" with its drop-in and Debian's python3-bpfcc: counts, drops without a gap, stays small"""
    host.run(f"{INSTALL} python3-bpfcc")
    there = without_a_gap(host, _restart("bcc", 'loader = "bcc"'), "from libbpf to bcc")
    status = host.json("status")
    must(status["loader"] == "bcc", "the bcc loader", f"{status['loader']}: {status['loader_reason']}")
    memory = status["memory_bytes"] / (1 << 20)
    must(memory <= 60, "at most 60 MiB of private memory, for LLVM is a child's", f"{memory:.0f} MiB")
    counted = count_pings(host)
    back = without_a_gap(host, _restart(), "from bcc to libbpf")
    must(host.json("status")["loader"] == "libbpf", "the libbpf loader", "another")
    return f"{memory:.0f} MiB RssAnon under bcc\n{there}\n{counted}\n{back}"


def serves_metrics(host: Host) -> str:
    """[metrics] with the drop-in: OpenMetrics for this host, and for nobody whom IPAddressAllow does not name"""
    host.run(_restart("metrics", '[metrics]\nlisten = "0.0.0.0:9177"'))
    get = "urllib.request.urlopen('http://{}:9177/metrics', timeout=3).read().decode()"
    fetch = f'python3 -c "import urllib.request; print({get})"'
    text = host.run(fetch.format("127.0.0.1")).stdout
    must("trafficmon_packets_total{" in text and text.rstrip().endswith("# EOF"), "OpenMetrics text", text)
    outside = host.run(f"ip netns exec peer {fetch.format(HERE)}", check=False)
    must(outside.returncode != 0 and "timed out" in outside.stderr, "no answer for the neighbour", outside.stderr)
    host.run(_restart())
    return f"{len(text.splitlines())} lines; the neighbour: {outside.stderr.splitlines()[-1]}"


COLLECTOR = """
import socket, struct, time
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.bind(("127.0.0.1", 4739))
    s.settimeout(30)
    sets = set()
    while not sets > {2}:
        message = s.recv(65536)
        assert struct.unpack_from("!HH", message) == (10, len(message)), message
        at = 16
        while at < len(message):
            number, length = struct.unpack_from("!HH", message, at)
            sets.add(number)
            at += length
    print("IPFIX sets", sorted(sets))
"""


def exports_flows(host: Host) -> str:
    """[[export]] with the drop-in: IPFIX templates and flows reach a collector"""
    (host.folder / "root/collector.py").write_text(COLLECTOR)
    collector = host.popen("exec python3 /root/collector.py")
    target = '[[export]]\nto = "ipfix+udp://127.0.0.1:4739"'
    host.run(_restart("export", f'[flows]\nidle_timeout = "2s"\n{target}'))
    host.ping()
    out, err = collector.communicate(timeout=40)
    must("IPFIX sets [2, " in out, "templates and data", out + err)
    (export,) = host.json("status")["exports"]
    must(export["sent"] > 0 and not export["lost"], "flows sent and none lost", export)
    host.run(_restart())
    return f"{out}{export}"
