"""`check` and `doctor` need no daemon; the first shows mistakes in place, the second says what to do."""

from __future__ import annotations

import gzip
import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from ctl_runs import Ctl

from trafficctl.doctor import EXAMINATIONS, daemon, interfaces, kernel, nic, permissions, programs, storage
from trafficctl.doctor import settings as settings_room
from trafficctl.doctor.examination import FAIL, OK, WARN, Finding, Host
from trafficctl.doctor.nic import Nic
from trafficmond.config.settings import Settings
from trafficmond.config.streams import Log
from trafficmond.datapath.interfaces import Interface, list_interfaces
from trafficmond.errors import DatapathError

WRONG_RULES = """\
[[rule]]
cidr = "10.0.0.0/33"
action = "dorp"

[[rule]]
cidr = "192.0.2.0/24"
action = "drop"
"""


def test_what_is_valid_is_reported_as_such(ctl: Ctl, folder: Path) -> None:
    for path in (folder / "trafficmond.toml", folder / "cidr.d", folder / "cidr.d" / "10.toml"):
        done = ctl("check", str(path))
        assert (done.returncode, done.stderr) == (0, "")
        assert "in order (1 rule, 1 prefix)" in done.stdout


def test_every_mistake_is_shown_in_its_place(ctl: Ctl, folder: Path) -> None:
    settings, rules = folder / "trafficmond.toml", folder / "cidr.d" / "10.toml"
    rules.write_text(WRONG_RULES)
    done = ctl("check", str(settings), "-o", "json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert not told["ok"]
    assert [(each["path"], each["line"], each["text"]) for each in told["mistakes"]] == [
        (str(rules), 2, 'cidr = "10.0.0.0/33"'),
        (str(rules), 3, 'action = "dorp"'),
    ]
    human = ctl("check", str(rules)).stdout.splitlines()
    assert human[0] == str(rules)
    assert human[1] == '     2 | cidr = "10.0.0.0/33"'
    assert human[2].lstrip().startswith("^ rule[0].cidr: ")
    settings.write_text('xdp_mode = "fast"\n[detect.port_scan]\nportz = 5\n')
    told = json.loads(ctl("check", str(settings), "-o", "json").stdout)
    assert [each["line"] for each in told["mistakes"]] == [1, 3]


def test_a_list_a_folder_and_the_originals_json(ctl: Ctl, tmp_path: Path) -> None:
    listed = tmp_path / "bad.netset"
    listed.write_text("192.0.2.0/24\nnonsense\n")
    assert json.loads(ctl("check", str(listed), "-o", "json").stdout)["mistakes"][0]["line"] == 2
    original = tmp_path / "strict.json"
    original.write_text('{"permitted_cidrs": ["192.0.2.0/24"]}')
    assert ctl("check", str(original)).returncode == 0
    original.write_text('{"permitted_cidrs": [5]}')
    assert ctl("check", str(original)).returncode == 1


def test_a_rule_that_has_expired_is_noted_in_its_place(ctl: Ctl, folder: Path) -> None:
    rules = folder / "cidr.d/10-old.toml"
    rules.write_text('\n[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\nexpires = 2020-01-01T00:00:00Z\n')
    for path in (rules, folder / "trafficmond.toml"):
        done = ctl("check", str(path), "-o", "json")
        assert done.returncode == 0
        (note,) = (note for note in json.loads(done.stdout)["notes"] if note["path"] == str(rules))
        assert (note["line"], "has expired" in note["what"]) == (2, True)


def test_nothing_to_check(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl("check", str(tmp_path / "none.toml"))
    assert done.returncode == 1
    assert "name what to check" in done.stderr


def test_what_would_be_waited_for_is_refused(ctl: Ctl, tmp_path: Path) -> None:
    for name in ("trafficmond.toml", "a.netset", "cidr.d"):
        os.mkfifo(tmp_path / name)
        for path in (tmp_path / name, Path("/dev/zero")):
            done = ctl("check", str(path))
            assert done.returncode == 1
            assert "it is not a regular file" in done.stdout


def test_broken_toml_and_binary_files(ctl: Ctl, folder: Path) -> None:
    for name, content in (("trafficmond.toml", b"a = [1,\n"), ("cidr.d/10.toml", b"\xff\xfe\0"), ("x.txt", b"\0\0")):
        (folder / name).write_bytes(content)
        assert ctl("check", str(folder / name)).returncode == 1


# ---- doctor ----


def host(tmp_path: Path, files: dict[str, str] | None = None, **settings: Any) -> Host:
    for name, text in (files or {}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Host(Settings(**settings), root=tmp_path, socket=str(tmp_path / "none"))


def states(findings: Any) -> dict[str, str]:
    """The worst state of each subject."""
    worst: dict[str, str] = {}
    for finding in findings:
        assert finding.state in (OK, WARN, FAIL)
        assert finding.state == OK or finding.advice or finding.subject == "settings"
        worst[finding.subject] = max(finding.state, worst.get(finding.subject, OK), key=(OK, WARN, FAIL).index)
    return worst


GOOD = {
    "proc/sys/kernel/osrelease": "6.1.0\n",
    "sys/kernel/btf/vmlinux": "",
    "proc/sys/net/core/bpf_jit_enable": "1\n",
    "sys/kernel/security/lockdown": "[none] integrity confidentiality\n",
    "boot/config-6.1.0": "CONFIG_BPF_SYSCALL=y\nCONFIG_NET=y\nCONFIG_NET_CLS_ACT=y\nCONFIG_NET_SCH_INGRESS=m\n",
    "proc/self/status": "CapBnd:\t000001ffffffffff\n",
    "proc/mounts": "bpf /sys/fs/bpf bpf rw 0 0\n",
    "etc/group": "root:x:0:\ntrafficmon:x:990:\ntrafficmon-admin:x:991:\n",
}


def test_a_good_kernel(tmp_path: Path) -> None:
    found = states(kernel.examine(host(tmp_path, GOOD)))
    assert set(found.values()) == {OK}
    assert set(found) == {"kernel", "kernel BTF", "BPF JIT", "lockdown", "kernel options"}


@pytest.mark.parametrize(
    ("change", "subject", "state"),
    [
        ({"proc/sys/net/core/bpf_jit_enable": "0"}, "BPF JIT", WARN),
        ({"proc/sys/net/core/bpf_jit_enable": None}, "BPF JIT", OK),  # a network namespace that is not the first
        ({"sys/kernel/security/lockdown": "none integrity [confidentiality]"}, "lockdown", FAIL),
        ({"boot/config-6.1.0": "CONFIG_NET=y\n"}, "kernel options", FAIL),
        ({"boot/config-6.1.0": "CONFIG_NET=y\nCONFIG_BPF_SYSCALL=y\nCONFIG_NET_CLS_ACT=y"}, "kernel options", WARN),
    ],
)
def test_a_kernel_with_a_flaw(tmp_path: Path, change: dict[str, str | None], subject: str, state: str) -> None:
    files = {name: text for name, text in {**GOOD, **change}.items() if text is not None}
    assert states(kernel.examine(host(tmp_path, files)))[subject] == state


def test_the_kernels_options_from_proc(tmp_path: Path) -> None:
    made = host(tmp_path, {name: text for name, text in GOOD.items() if not name.startswith("boot")})
    assert "kernel options" not in states(kernel.examine(made))  # nowhere to be read: not guessed
    (tmp_path / "proc/config.gz").write_bytes(gzip.compress(b"# CONFIG_BPF_SYSCALL is not set\nCONFIG_NET=y\n"))
    assert states(kernel.examine(made))["kernel options"] == FAIL


def test_permissions(tmp_path: Path) -> None:
    assert set(states(permissions.examine(host(tmp_path, GOOD))).values()) == {OK}
    poor = {"proc/self/status": "CapBnd:\t0000000000000000\n", "proc/mounts": "", "etc/group": "root:x:0:\n"}
    found = states(permissions.examine(host(tmp_path, {**GOOD, **poor})))
    assert found == {"capabilities": FAIL, "bpffs": FAIL, "groups": WARN}


def test_the_services_pin_directory(tmp_path: Path) -> None:
    service = {"run/systemd/system/x": "", "usr/lib/systemd/system/trafficmond.service": ""}
    made = host(tmp_path, {**GOOD, **service, "etc/passwd": f"trafficmon:x:{os.getuid()}:990::/:/bin/false\n"})
    assert states(permissions.examine(made))["pin directory"] == FAIL  # there is none
    (tmp_path / "sys/fs/bpf/trafficmon").mkdir(parents=True)
    assert states(permissions.examine(made))["pin directory"] == OK
    (tmp_path / "etc/passwd").write_text(f"trafficmon:x:{os.getuid() + 1}:990::/:/bin/false\n")
    (found,) = (each for each in permissions.examine(made) if each.subject == "pin directory")
    assert (found.state, found.what) == (
        FAIL,
        "/sys/fs/bpf/trafficmon does not belong to user trafficmon: the service cannot start",
    )
    assert "chown" in found.advice
    (tmp_path / "usr/lib/systemd/system/trafficmond.service").unlink()
    assert "pin directory" not in states(permissions.examine(made))  # a daemon started by hand makes its own


@pytest.mark.parametrize(
    ("each", "mode", "state", "told"),
    [
        (Nic("eth0", "i40e", native_xdp=True), "auto", OK, "has native XDP"),
        (Nic("eth0", "e1000", native_xdp=False), "auto", WARN, "no native XDP"),
        (Nic("eth0", "e1000", native_xdp=False), "native", FAIL, "no native XDP"),
        (Nic("eth0", "e1000", native_xdp=False), "skb", OK, "e1000, MTU 1500"),
        (Nic("eth0", "i40e", mtu=9000, native_xdp=True), "auto", WARN, "MTU 9000"),
        (Nic("eth0", "i40e", lro=True), "auto", WARN, "large receive offload"),
        (Nic("eth0", "i40e", rx_vlan_offload=True), "auto", OK, "removes VLAN tags"),
        (Nic("eth0", "veth", rx_vlan_offload=True), "auto", OK, "VLAN tags beside the packet"),
        (Nic("eth0", "i40e", up=False), "auto", OK, "down"),
        (Nic("eth0", "veth", xdp_mode="native", xdp_program="tm_xdp"), "auto", OK, "trafficmon is attached"),
        (Nic("eth0", "veth", xdp_mode="native", xdp_program="xdp_other"), "auto", FAIL, "another XDP program"),
        (Nic("eth0", "veth", xdp_mode="generic"), "auto", WARN, "its owner is unknown"),
    ],
)
def test_interfaces_are_judged(each: Nic, mode: str, state: str, told: str) -> None:
    findings = list(interfaces.judge(each, mode))
    assert states(findings) == {"interface eth0": state}
    assert told in " | ".join(finding.what for finding in findings)


def test_which_interfaces_the_settings_mean_is_what_the_daemon_thinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A /regex/ means the whole name, a mere part of it none; and more than can be watched is a failure."""
    present = [Interface(number, f"eth{number}", 1500, True, False, 0, "") for number in range(1, 100)]
    monkeypatch.setattr(interfaces, "list_interfaces", lambda: present)
    monkeypatch.setattr(interfaces.nic, "read", lambda _: iter(()))

    def told(*patterns: str) -> list[tuple[str, str]]:
        return [(each.state, each.what) for each in interfaces.examine(Host(Settings(interfaces=patterns)))]

    assert told("/eth1/") == []
    (none,) = told("/eth/")
    assert none == (WARN, "no interface matches /eth/ at the moment; one that appears will be watched")
    (many,) = told("eth*")
    assert many == (FAIL, "99 interfaces are selected, but at most 62 can be watched: the others are not")


def test_the_real_interfaces_have_facts() -> None:
    facts = {each.name: each for each in nic.read(list_interfaces())}
    assert facts["lo"].mtu >= 1500
    assert list(nic.read([Interface(1 << 30, "no-such-if", 1500, True, False, 0, "")])) == []


def test_no_such_interface_is_a_warning() -> None:
    found = list(interfaces.examine(Host(Settings(interfaces=("no-such-if",)))))
    assert [(each.state, "no interface matches no-such-if" in each.what) for each in found] == [(WARN, True)]


def test_room_and_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(format="jsonl", path=Path("/var/log/trafficmon/traffic.jsonl"))
    made = host(tmp_path, logs=(log,))
    for status, state in ((0, OK), (0x40, WARN), (None, WARN)):
        monkeypatch.setattr(storage, "clock_status", lambda status=status: status)
        found = states(storage.examine(made))
        assert found["clock"] == state
        assert {"state_dir", "log traffic.jsonl"} <= set(found)
    monkeypatch.setattr(storage, "clock_status", lambda: 0x40)
    for file, advice in (
        ("nothing", "apt install systemd-timesyncd"),
        ("run/systemd/container", "on that host: timedatectl"),
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
        (clock,) = (each for each in storage.examine(made) if each.subject == "clock")
        assert advice in clock.advice


def test_the_kernel_tells_about_its_clock() -> None:
    assert storage.clock_status() is not None


def test_a_disk_with_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        f_bavail, f_frsize, f_flag = 100, 4096, 0

    monkeypatch.setattr(storage.os, "statvfs", lambda _: Full)
    assert states(storage.examine(host(tmp_path)))["state_dir"] == FAIL
    Full.f_bavail = 1 << 18
    assert states(storage.examine(host(tmp_path)))["state_dir"] == WARN
    Full.f_flag = 1
    assert states(storage.examine(host(tmp_path)))["state_dir"] == FAIL


def test_settings_are_examined(tmp_path: Path) -> None:
    assert states(settings_room.examine(host(tmp_path))) == {"settings": OK}  # none: the defaults hold
    wrong = tmp_path / "x.toml"
    wrong.write_text('xdp_mode = "fast"\n')
    assert states(settings_room.examine(Host(config=wrong))) == {"settings": FAIL}
    assert states(settings_room.examine(Host(config=tmp_path / "none"))) == {"settings": FAIL}


def test_loaders(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: bool) -> Path:
        raise DatapathError("not built", hint="run make build")

    monkeypatch.setattr("trafficmond.datapath.loader.find_object", missing)
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: None)
    found = states(programs.examine(Host(Settings())))
    assert found == {"loader libbpf": FAIL, "loader bcc": OK}
    found = states(programs.examine(Host(Settings(loader="bcc"))))
    assert found == {"loader bcc": FAIL}
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: object())
    assert states(programs.examine(Host(Settings()))) == {"loader libbpf": WARN, "loader bcc": OK}


@pytest.mark.parametrize(
    ("installed", "forbidden", "wanted"),
    [
        (False, "yes", (FAIL, "not installed", "apt-get install python3-bpfcc")),
        (True, "yes", (FAIL, "does not let it run what it compiles", "bcc.conf")),
        (True, "no", (OK, "installed", "")),
    ],
)
def test_what_the_second_loader_lacks(
    installed: bool, forbidden: str, wanted: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for there in ("run/systemd/system/x", "usr/lib/systemd/system/trafficmond.service"):
        (tmp_path / there).parent.mkdir(parents=True)
        (tmp_path / there).touch()
    monkeypatch.setattr(programs.importlib.util, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(programs, "unit_state", lambda _: {"MemoryDenyWriteExecute": forbidden})
    (found,) = programs.examine(Host(Settings(loader="bcc"), root=tmp_path))
    state, what, advice = wanted
    assert (found.state, what in found.what, advice in found.advice) == (state, True, True)


def test_the_daemon_is_asked(tmp_path: Path, running: Any) -> None:
    assert states(daemon.examine(host(tmp_path))) == {"daemon": WARN}
    assert states(daemon.examine(Host(socket=str(running.path)))) == {"daemon": OK}

    status = running.canned.replies["Status"]
    sick = {"config": {**status["config"], "error": "odd"}, "warnings": ["eth1 vanished"]}
    running.canned.replies["Status"] = {**status, **sick}
    found = list(daemon.examine(Host(socket=str(running.path))))
    assert [each.state for each in found] == [OK, FAIL, WARN]


@pytest.mark.parametrize(
    ("unit", "state"),
    [
        ({"ActiveState": "inactive", "Result": "success", "NRestarts": "0"}, WARN),  # somebody stopped it
        ({"ActiveState": "activating", "Result": "success", "NRestarts": "0"}, WARN),  # on its way
        ({"ActiveState": "activating", "Result": "exit-code", "NRestarts": "7"}, FAIL),
        ({"ActiveState": "failed", "Result": "exit-code", "NRestarts": "0"}, FAIL),
        ({"ActiveState": "active", "Result": "success", "NRestarts": "0"}, FAIL),  # and does not answer
    ],
)
def test_a_daemon_that_does_not_come_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: dict[str, str], state: str
) -> None:
    service = {"run/systemd/system/x": "", "usr/lib/systemd/system/trafficmond.service": ""}
    monkeypatch.setattr(daemon, "unit_state", lambda: unit)
    assert states(daemon.examine(host(tmp_path, service))) == {"daemon": state}


def test_a_socket_that_nobody_serves(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "none"))
    (found,) = daemon.examine(host(tmp_path))
    assert (found.state, "nobody listens" in found.what) == (FAIL, True)


def test_the_exit_code_is_by_the_worst(ctl: Ctl, monkeypatch: pytest.MonkeyPatch) -> None:
    import trafficctl.doctor

    for state, code in ((OK, 0), (WARN, 0), (FAIL, 1)):
        finding = Finding("something", state, "is so", "do this")
        monkeypatch.setattr(trafficctl.doctor, "EXAMINATIONS", [lambda _, finding=finding: iter([finding])])
        done = ctl("doctor", "-o", "json")
        assert done.returncode == code
        assert json.loads(done.stdout) == [
            {"subject": "something", "state": state, "what": "is so", "advice": "do this"}
        ]
        assert "-> do this" in ctl("doctor").stdout


def test_this_host_can_be_examined() -> None:
    findings = [finding for examine in EXAMINATIONS for finding in examine(Host())]
    assert {finding.subject for finding in findings} >= {"settings", "kernel", "capabilities", "clock", "daemon"}
