"""An administrator's day with trafficmon, step by step. Each step says what it does, and fails with what it saw."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable

from drop_ins import compiles_on_start, exports_flows, serves_metrics
from host import HERE, INSTALL, PEER, RULES, SETTINGS, STRANGER, UNIT, Host, count_pings, must, soon, without_a_gap
from in_cockpit import is_managed_in_cockpit
from jails import carries_out_the_bans_of_fail2ban
from logins import spares_who_is_logged_in
from newcomer import drops_by_default_over_ssh
from sharing import asks_to_share
from whose import tells_whose_flows_are

ONLY_OURS = "-o Dir::Etc::sourcelist=/etc/apt/sources.list.d/trafficmon.list -o Dir::Etc::sourceparts=/dev/null"
ONLY_OURS += " -o APT::Get::List-Cleanup=0"


def installs(host: Host) -> str:
    """apt install trafficmon, from the local repository"""
    _knows_the_repository(host)
    host.run(f"{INSTALL} /srv/previous.deb")  # the build before this one; this one comes with the upgrade below
    return host.run("dpkg-query -W trafficmon").stdout


def installs_afresh(host: Host) -> str:
    """apt install trafficmon, the newest"""
    _knows_the_repository(host)
    host.run(f"{INSTALL} trafficmon", timeout=300)
    return host.run("dpkg-query -W trafficmon").stdout


def _knows_the_repository(host: Host) -> None:
    host.run("echo 'deb [trusted=yes] file:/srv/apt ./' >/etc/apt/sources.list.d/trafficmon.list")
    host.run(f"apt-get update -q {ONLY_OURS}")
    host.run("apt-cache policy trafficmon | grep -q 'Candidate: [0-9]'")


def starts(host: Host) -> str:
    """systemctl start: up as its own user, with three capabilities, on an unconfigured host"""
    host.run("systemctl start trafficmond")
    host.run(f"systemctl is-active --quiet {UNIT}")
    status = dict(line.split(":\t", 1) for line in host.run(f"cat /proc/{host.pid()}/status").stdout.splitlines())
    must(
        int(status["CapEff"], 16) == 1 << 12 | 1 << 38 | 1 << 39,
        "CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF",
        status["CapEff"],
    )
    owner = host.run(f"stat -c %U /proc/{host.pid()}").stdout.strip()
    must(owner == "trafficmon", "the user trafficmon", owner)
    return f"user trafficmon, CapEff {status['CapEff']}, {int(status['RssAnon'].split()[0]) / 1024:.0f} MiB RssAnon"


def is_confined(host: Host) -> str:
    """systemd-analyze security: at most 1.5 for each of its services"""
    said = []
    for unit in (UNIT, "trafficmond-pins.service", "trafficmon-notify.service", "trafficmon-fetch.service"):
        line = host.run(f"systemd-analyze security --no-pager {unit} | tail -n 1").stdout.strip("→ \n")
        said.append(line)
        must(float(line.split(":")[1].split()[0]) <= 1.5, "an exposure of at most 1.5", line)
    return "\n".join(said)


def watches_the_default_route(host: Host) -> str:
    """trafficctl status: watches the default route's interface, drops nothing"""
    status = host.json("status")
    names = [interface["name"] for interface in status["interfaces"]]
    must(names == ["uplink"], "uplink, the default route's interface, and no other", names)
    must(host.program() > 0, "an XDP program on uplink", "none")
    must(host.ping() == 3, "3 of 3 pings answered", "fewer")
    return host.run("trafficctl status").stdout


def accounts_exactly(host: Host) -> str:
    """traffic over veth: 500 pings are 500 packets more each way, all accounted for"""
    return count_pings(host)


def adds_a_rule(host: Host) -> str:
    """add-cidr drops at once, explain says why, remove-cidr lets pass again"""
    host.run(f"trafficctl add-cidr {PEER}/32 --action drop --label neighbour")
    must(host.ping() == 0, "no ping answered", "some")
    said = host.run(f"trafficctl explain {PEER}").stdout
    must("neighbour" in said, "explain to name the rule", said)
    host.run(f"trafficctl remove-cidr {PEER}/32")
    must(host.ping() == 3, "pings answered again", "not all")
    return said


def edits_a_file(host: Host) -> str:
    """a file in cidr.d takes effect by itself; one with a mistake changes nothing and is told"""
    host.run(
        f'printf \'[[rule]]\\ncidr = "198.51.100.0/24"\\naction = "drop"\\nlabel = "filed"\\n\' >{RULES}/10-test.toml'
    )
    took = soon(lambda: "filed" in host.run("trafficctl rules").stdout, "the rule of the new file in force", 5)
    host.run(f"printf '[[rule]]\\ncidr = \"300.0.0.0/8\"\\n' >{RULES}/20-broken.toml")
    soon(lambda: host.json("status")["config"]["error"], "the mistake in status", 5)
    checked = host.run("trafficctl check", check=False)
    must(checked.returncode == 1, "trafficctl check to end with 1", checked.returncode)
    must("20-broken.toml" in checked.stdout + checked.stderr, "the file named", checked.stdout)
    reload = host.run("systemctl reload trafficmond", check=False)
    must(reload.returncode != 0, "systemctl reload to fail while a file is broken", "it succeeded")
    must(
        "filed" in host.run("trafficctl rules").stdout,
        "the last good rules in force",
        host.run("trafficctl rules").stdout,
    )
    host.run(f"rm {RULES}/20-broken.toml && systemctl reload trafficmond")
    must(not host.json("status")["config"]["error"], "no error after the reload", host.json("status")["config"])
    return f"in force {took:.1f} s after the file was written\n{checked.stdout}{checked.stderr}"


def reads_the_journal(host: Host) -> str:
    """journalctl -u trafficmond: events with structured fields"""
    host.run(f"trafficctl add-cidr {PEER}/32 --action drop --label journalled")
    host.ping()
    host.run(f"trafficctl remove-cidr {PEER}/32")
    query = "journalctl -u trafficmond -o json --no-pager"
    soon(lambda: any("SRC_IP" in key for key in _fields(host.run(query).stdout)), "entries with an address as a field")
    fields = sorted(key for key in _fields(host.run(query).stdout) if not key.startswith("_"))
    return f"{' '.join(fields)}\n{host.run('journalctl -u trafficmond -n 5 -o cat --no-pager').stdout}"


def _fields(journal: str) -> set[str]:
    return {key for line in journal.splitlines() for key in json.loads(line)}


def asks_the_database(host: Host) -> str:
    """sqlite3 flows.db: the flows of the pings"""
    where = f"WHERE protocol = 'ICMP' AND src_ip = '{PEER}'"
    query = f"SELECT count(*), sum(packets), sum(reply_packets) FROM flows {where}"
    host.run("systemctl reload-or-restart trafficmond")  # a restart or reload must not lose what is not yet stored
    ask = f'sqlite3 -readonly /var/lib/trafficmon/flows.db "{query}"'
    soon(lambda: int(host.run(ask).stdout.split("|")[1] or 0) >= 500, "the 500 pings in flows.db", 60)
    return host.run(ask).stdout


def keeps_out_strangers(host: Host) -> str:
    """a stranger is refused with a hint, a group member may ask but not change, trafficmon-admin may change"""
    for user, groups in (("stranger", ""), ("reader", "trafficmon"), ("admin", "trafficmon,trafficmon-admin")):
        host.run(f"useradd -m -G '{groups}' {user}")
    refused = host.run("trafficctl status", "stranger", check=False)
    must(refused.returncode in (3, 4), "exit code 3 or 4 for a stranger", refused.returncode)
    must("trafficmon" in refused.stderr, "a hint that names the group", refused.stderr)
    host.run("trafficctl status", "reader")
    denied = host.run("trafficctl add-cidr 198.51.100.9/32", "reader", check=False)
    must(denied.returncode == 4, "exit code 4 for a reader who changes", f"{denied.returncode} {denied.stderr}")
    host.run("trafficctl add-cidr 198.51.100.9/32 && trafficctl remove-cidr 198.51.100.9/32", "admin")
    host.run("sqlite3 -readonly /var/lib/trafficmon/flows.db 'SELECT count(*) FROM flows'", "reader")
    must(
        host.run("ls /var/lib/trafficmon", "stranger", check=False).returncode != 0,
        "the history closed to a stranger",
        "open",
    )
    return refused.stderr + denied.stderr


def restarts_without_a_gap(host: Host) -> str:
    """systemctl restart: what is dropped stays dropped, and what is seen stays counted"""
    return without_a_gap(host, "systemctl restart trafficmond", "systemctl restart")


def survives_a_kill(host: Host) -> str:
    """kill -9: filtering goes on, and systemd brings the daemon back"""
    return without_a_gap(host, f"kill -9 {host.pid()}", "kill -9")


def survives_a_hang(host: Host) -> str:
    """a daemon that hangs is ended by the watchdog and comes back; filtering goes on"""
    drop_in = "/run/systemd/system/trafficmond.service.d"
    host.run(f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=3s\\n' >{drop_in}/watchdog.conf")
    host.run("systemctl daemon-reload && systemctl restart trafficmond")
    said = without_a_gap(host, f"kill -STOP {host.pid()}", "SIGSTOP")
    result = host.run(f"journalctl -u {UNIT} --no-pager | grep -i watchdog | tail -n 2").stdout
    must("atchdog" in result, "the watchdog in the journal", result)
    host.run(f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart trafficmond")
    return said + "\n" + result


def upgrades_under_traffic(host: Host) -> str:
    """apt upgrade from the previous build under traffic: nothing passes, nothing is uncounted"""
    old = host.run("dpkg-query -W -f '${Version}' trafficmon").stdout
    host.run("echo '# mine' >>/etc/trafficmon/trafficmond.toml")
    said = without_a_gap(host, f"{INSTALL} trafficmon", "the upgrade", settle=60)
    new = host.run("dpkg-query -W -f '${Version}' trafficmon").stdout
    must(new != old and old.startswith(new), "a newer version", f"{old} -> {new}")
    host.run("tail -n 1 /etc/trafficmon/trafficmond.toml | grep -qx '# mine'")
    return f"{old} -> {new}; the edited conffile is kept\n{said}"


def passes_its_own_tests(host: Host) -> str:
    """debian/tests, as autopkgtest runs them: here without any network but their own"""
    names = re.search(r"^Tests: (.*)$", host.run("cat /srv/tests/control").stdout, re.MULTILINE)
    must(names is not None, "the control file to name tests", names)
    said = "".join(host.run(f"/srv/tests/{name} 2>&1").stdout for name in names[1].split()) if names else ""
    host.run("systemctl restart trafficmond")  # they have put the settings back
    must(host.ping() == 3, "pings answered afterwards", "not all")
    return "\n".join(line for line in said.splitlines() if line.startswith("=="))


def starts_whatever_the_files_are(host: Host) -> str:
    """mistakes in rules or settings and a folder for flows.db, as at a reboot: filtered as before, which comes first"""
    rule, history = f"{RULES}/30-neighbour.toml", "/var/lib/trafficmon/flows.db"
    host.run(f'printf \'[[rule]]\\ncidr = "{PEER}"\\naction = "drop"\\n\' >{rule} && trafficctl reload')
    must(host.ping() == 0, "no ping answered", "some")
    said = []
    for breaks, mends, told in (
        (f"sed -i s/drop/dorp/ {rule}", f"sed -i s/dorp/drop/ {rule}", f"{rule}:3"),
        (f"cp -p {SETTINGS} {SETTINGS}.mine && echo '[[' >>{SETTINGS}", f"mv {SETTINGS}.mine {SETTINGS}", SETTINGS),
        (
            f"mv {history} {history}.mine && mkdir {history}",
            f"rmdir {history} && mv {history}.mine {history}",
            "history",
        ),
    ):
        host.run("systemctl stop trafficmond")
        soon(lambda: host.program() == 0, "nothing left in the kernel")
        host.run(f"{breaks} && systemctl start trafficmond")
        must(host.ping() == 0, "no ping answered", "some")
        soon(lambda told=told: told in "".join(host.run("trafficctl status").stdout.splitlines()[:3]), f"{told} first")
        said += host.run("trafficctl status").stdout.splitlines()[:3]
        host.run(f"{mends} && systemctl restart trafficmond")
        soon(lambda: not host.json("status")["warnings"], "no warning any more", 20)
    host.run(f"rm {rule} && trafficctl reload")
    must(host.ping() == 3, "pings answered again", "not all")
    return "\n".join(said)


def tells_people(host: Host) -> str:
    """trafficmon-notify: a test message, then a threat, as a user of its own that sees neither flows.db nor settings"""
    got = "/var/lib/trafficmon-notify/got"
    target = f'command = ["/usr/bin/tee", "-a", "{got}"]'
    host.run("install -m 600 /usr/share/doc/trafficmon/examples/notify.toml /etc/trafficmon/")
    host.run(f"printf '%s\\n' 'min_severity = \"low\"' '[[target]]' '{target}' >>/etc/trafficmon/notify.toml")
    host.run("systemctl start trafficmon-notify && trafficctl notify --test")
    must('"test": true' in host.run(f"cat {got}").stdout, "a test message", "none")
    scan = "import socket\nfor port in range(2000, 2200): socket.socket().connect_ex(('{HERE}', port))"
    host.run(f"ip netns exec peer python3 - <<'END'\n{scan.format(HERE=HERE)}\nEND")
    took = soon(lambda: '"port_scan"' in host.run(f"cat {got}").stdout, "a message about the scan", 20)
    owner = host.run(f"stat -c %U:%a {got} /var/lib/trafficmon-notify").stdout.split()
    must(owner[0].startswith("trafficmon-notify:"), "messages sent as trafficmon-notify", owner)
    inside = "nsenter -t $(systemctl show -P MainPID trafficmon-notify) -m -S $(id -u trafficmon-notify)"
    seen = host.run(f"{inside} cat /var/lib/trafficmon/flows.db /etc/trafficmon/notify.toml", check=False)
    must(seen.returncode != 0 and not seen.stdout, "neither flows.db nor the settings to be seen", "they are")
    host.run("systemctl stop trafficmon-notify")
    return f"a message {took:.1f} s after the scan began\n" + host.run("trafficctl notify").stdout


def fetches_a_list(host: Host) -> str:
    """trafficmon-fetch: a list from a server here is in force, stays over the server's end, and goes with its name"""
    server = host.popen(
        f"cd /srv && echo {STRANGER} >stranger.netset && exec python3 -m http.server 8000 --bind {HERE}"
    )
    text = f'[[list]]\\nlabel = "far"\\nurl = "http://{HERE}:8000/stranger.netset"\\nurl_allow = ["http", "private"]\\n'
    host.run(f"cp -p {SETTINGS} {SETTINGS}.before && printf '{text}' >>{SETTINGS}")
    host.run("trafficctl reload")
    soon(lambda: host.run("systemctl start trafficmon-fetch", check=False).returncode == 0, "the list fetched", 20)
    took = soon(lambda: host.ping(1, source=STRANGER) == 0, "its member dropped", 10)
    host.run("pkill -f http.server")
    server.wait(10)
    host.run("! trafficmon-fetch --all")  # as root, which does not matter here
    said = host.run("trafficctl lists", check=False)
    must(said.returncode == 1 and "cannot connect" in said.stdout, "why it cannot be fetched", said.stdout)
    must(host.ping(1, source=STRANGER) == 0, "its member still dropped", "it is not")
    host.run(f"mv {SETTINGS}.before {SETTINGS} && trafficctl reload")
    must(host.ping(3, source=STRANGER) == 3, "pings of it answered again", "not all")
    return f"in force {took:.1f} s after it was fetched\n{said.stdout}"


def stops(host: Host) -> str:
    """systemctl stop detaches; with on_stop = "keep" the filter stays; start finds its way back"""
    host.run("systemctl stop trafficmond")
    took = soon(lambda: host.program() == 0, "no XDP program on uplink", 10)
    must(not host.run("tc filter show dev uplink egress").stdout, "no TC program left", "one")
    left = host.run("trafficctl status", check=False)
    must(left.returncode == 3, "exit code 3 without a daemon", left.returncode)
    host.run("sed -i '1i on_stop = \"keep\"' /etc/trafficmon/trafficmond.toml && systemctl start trafficmond")
    program = host.program()
    host.run("systemctl stop trafficmond")
    time.sleep(2)
    must(host.program() == program != 0, "the XDP program kept", f"{program} -> {host.program()}")
    host.run("systemctl start trafficmond")
    host.run("sed -i 1d /etc/trafficmon/trafficmond.toml && trafficctl reload")
    return f"detached {took:.1f} s after systemctl stop\n{left.stderr}"


def reads_the_manual(host: Host) -> str:
    """the man pages are there and have no warnings"""
    pages = (
        "trafficmond.8",
        "trafficctl.1",
        "trafficmond.toml.5",
        "trafficmon-rules.5",
        "trafficmon-notify.8",
        "trafficmon-fetch.8",
        "trafficmon-share.8",
    )
    for page in pages:
        name, _, section = page.rpartition(".")
        warnings = host.run(f"MANWIDTH=100 man --warnings {section} {name} 2>&1 >/dev/null").stdout
        must(not warnings, f"no warnings in {page}", warnings)
    return " ".join(pages)


def passes_the_unit_tests(host: Host) -> str:
    """the unit tests, with the Python and the libraries of this Debian"""
    if (
        host.run("python3 -V").stdout
        == subprocess.run(["/usr/bin/python3", "-V"], capture_output=True, text=True).stdout
    ):
        return "those that the tests outside have as well"
    host.run(f"{INSTALL} python3-pytest python3-pytest-timeout python3-pytest-xdist python3-hypothesis")
    tests = "python3 -m pytest -q -n 2 -rN -m 'not root' -p no:cacheprovider"
    # Their reference, the package varlink, is not in Debian.
    tests += " --ignore tests/control/test_control_conformance.py --ignore tests/control/test_control_idl.py"
    tests += " --ignore tests/world"  # minutes of arithmetic, which the tests outside do as well
    # CI: the inputs of the property tests are the same each time.
    settings = "CI=1 HYPOTHESIS_STORAGE_DIRECTORY=/tmp"
    return host.run(f"cd /srv/source && {settings} {tests}", timeout=900).stdout.splitlines()[-1]


def removes(host: Host) -> str:
    """apt remove: nothing attached, settings kept"""
    host.run("apt-get remove -y -q trafficmon")
    must(host.program() == 0, "no XDP program on uplink", host.program())
    must(not host.run("tc filter show dev uplink egress").stdout, "no TC program left", "one")
    host.run(f"test -f /etc/trafficmon/trafficmond.toml && test -f {RULES}/10-test.toml")
    must(host.ping() == 3, "pings answered", "not all")
    return ""


def purges(host: Host) -> str:
    """apt purge: nothing left of it"""
    said = host.run("apt-get purge -y -q trafficmon")
    must("warning" not in said.stdout + said.stderr, "no warning of dpkg", said.stdout + said.stderr)
    apts = "-not -path '/var/lib/apt/*' -not -path '/var/cache/apt/*' -not -path '*/sources.list.d/*'"
    left = host.run(f"find /etc /usr /var /run /sys/fs/bpf -iname '*trafficmon*' {apts}", check=False).stdout
    must(not left, "no file of it left", left)
    names = host.run(
        "getent passwd trafficmon trafficmon-notify trafficmon-fetch; getent group trafficmon trafficmon-admin",
        check=False,
    )
    must(not names.stdout, "its users and groups gone", names.stdout)
    return ""


STEPS: tuple[Callable[[Host], str], ...] = (
    installs,
    starts,
    is_confined,
    watches_the_default_route,
    accounts_exactly,
    adds_a_rule,
    edits_a_file,
    reads_the_journal,
    asks_the_database,
    keeps_out_strangers,
    spares_who_is_logged_in,
    drops_by_default_over_ssh,
    restarts_without_a_gap,
    survives_a_kill,
    survives_a_hang,
    upgrades_under_traffic,
    passes_its_own_tests,
    starts_whatever_the_files_are,
    compiles_on_start,
    serves_metrics,
    exports_flows,
    tells_whose_flows_are,
    carries_out_the_bans_of_fail2ban,
    tells_people,
    fetches_a_list,
    is_managed_in_cockpit,
    asks_to_share,
    stops,
    reads_the_manual,
    passes_the_unit_tests,
    removes,
    purges,
)
