"""A reboot never leaves the host unfiltered because of a file: the rules that were in force last are, all together."""

from __future__ import annotations

from pathlib import Path

import door
import pytest
from test_lab_lifecycle import attached, outcome
from tmlab import Daemon, Lab
from tmlab.daemon import PYTHON

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ONE, TWO, LISTED, TODAY, ALLOWED = "203.0.113.7", "203.0.113.200", "192.0.2.7", "192.0.2.200", "198.51.100.7"
ALL = (ONE, TWO, LISTED, TODAY, ALLOWED)
YESTERDAY = {ONE: False, TWO: False, LISTED: False, TODAY: True, ALLOWED: True}
SETTINGS = """
[flows]
interval = "200ms"
[[list]]
label = "bad"
path = "{home}/bad.netset"
action = "drop"
"""


def rule(address: str, action: str = "drop") -> str:
    return f'[[rule]]\ncidr = "{address}"\naction = "{action}"\n'


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    """One that has run with two files and a list, and has left nothing in the kernel."""
    with Daemon(lab, SETTINGS, rules={"one.toml": rule(ONE), "two.toml": rule(TWO)}, keep=True) as made:
        (made.home / "bad.netset").write_text(f"{LISTED}\n")
        made.wait_status(lambda s: s["rules"]["prefixes"] == 3, "both files and the list")
        made.stop()
        assert attached(lab) is None
        return made


@pytest.fixture(autouse=True)
def _removed(daemon: Daemon) -> object:
    yield
    daemon.remove()


def kept(daemon: Daemon) -> Path:
    return daemon.home / "state" / "last-good" / "in-force.json"


def test_mistakes_in_rules(lab: Lab, daemon: Daemon) -> None:
    daemon.write_rules("one.toml", rule(ONE, "dorp"))
    daemon.write_rules("two.toml", rule(TODAY))  # right, but of today
    (daemon.home / "bad.netset").write_text(f"{TODAY}\n")
    for end in (daemon.stop, daemon.kill, daemon.stop):
        daemon.start()
        assert door.Wire(lab).passes(*ALL) == YESTERDAY
        first, *rest = daemon.control("status").stdout.splitlines()
        assert first.startswith(f"not in force {daemon.cidr_dir}/one.toml:3: rule[0].action: 'dorp' is not valid")
        assert "the rules and settings that were in force last are used" in "\n".join(rest[:8])
        doctor = daemon.control("doctor", "-c", str(daemon.config), check=False).stdout
        assert "the files on disk are not in force" in doctor
        assert "trafficmon_config_refused 1" in daemon.control("metrics").stdout
        assert "the files have mistakes, so the rules and settings that were in force last are used" in daemon.said()
        assert "one.toml:3: rule[0].action: 'dorp'" in daemon.said()
        assert daemon.control("reload", check=False).returncode == 1
        assert door.Wire(lab).passes(*ALL) == YESTERDAY
        end()
    daemon.start()
    daemon.write_rules("one.toml", rule(ONE))
    status = daemon.wait_status(lambda s: not s["config"]["error"], "the files in force")
    assert status["warnings"] == []
    assert door.Wire(lab).passes(*ALL) == {**YESTERDAY, TWO: True, LISTED: True, TODAY: False}


def test_rules_by_hand_are_part_of_it(lab: Lab, daemon: Daemon) -> None:
    daemon.start()
    daemon.control("add-cidr", ALLOWED, "--action", "drop", "--save")
    daemon.kill()
    daemon.write_rules("one.toml", "[")
    own = daemon.home / "state" / "rules.toml"
    for text in (None, "[[rule"):
        if text:
            own.write_text(text)
        daemon.start()
        assert door.Wire(lab).passes(*ALL) == {**YESTERDAY, ALLOWED: False}
        daemon.stop()


def test_the_default_in_the_settings_is_part_of_it(lab: Lab, daemon: Daemon) -> None:
    """Yesterday's rules are not judged with today's default."""
    daemon.configure(SETTINGS + '[policy]\ndefault = "drop"\n')
    daemon.write_rules("one.toml", "[")
    daemon.start()
    assert door.Wire(lab).passes(*ALL) == YESTERDAY
    daemon.write_rules("one.toml", rule(ONE))
    daemon.wait_status(lambda s: not s["config"]["error"], "the files in force")
    assert door.Wire(lab).passes(*ALL) == dict.fromkeys(ALL, False)


@pytest.mark.parametrize("gone", ["never kept", "damaged", "a copy"])
def test_where_nothing_is_known_it_does_not_start(lab: Lab, daemon: Daemon, gone: str) -> None:
    """Half of the rules would be worse: nobody would see that some are missing."""
    if gone == "a copy":
        next(each for each in kept(daemon).parent.iterdir() if each != kept(daemon)).unlink()
    elif gone == "damaged":
        kept(daemon).write_text("[")
    else:
        kept(daemon).unlink()
    daemon.write_rules("one.toml", rule(ONE, "dorp"))
    code, said = outcome(daemon)
    assert code == 2
    assert "one.toml:3: rule[0].action: 'dorp'" in said
    assert "nothing is filtered, since the rules in force before are unknown" in said
    assert attached(lab) is None
    daemon.write_rules("one.toml", rule(ONE))
    daemon.start()
    assert door.Wire(lab).passes(*ALL) == YESTERDAY


LATE = """
import errno, sys
from trafficmond import parts
async def fail(parts):
    raise OSError(errno.ENOMEM, "Cannot allocate memory")
parts._restore_bans = fail
from trafficmond.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("when", ["before it attaches", "after"])
def test_a_start_that_fails_leaves_the_filter_of_the_last_daemon(lab: Lab, when: str) -> None:
    """With maps of another size, so that it does not use those of the last daemon. The filter was taken off."""
    late = ["sh", "-c", f'shift 3; exec {PYTHON} -c "$LATE" "$@"', "sh"] if when == "after" else []
    with Daemon(lab, f'on_stop = "keep"{SETTINGS}', rules={"one.toml": rule(ONE)}) as first:
        (first.home / "bad.netset").write_text("")
        first.stop()
        first.configure(f'on_stop = "keep"{SETTINGS}'.replace("[flows]", "[flows]\ncapacity = 1024"))
        if when == "before it attaches":
            kept(first).unlink()
            first.write_rules("one.toml", rule(ONE, "dorp"))
        first._prefix, first._environment = late, {"LATE": LATE}
        code, said = outcome(first)
        assert (code, ("earlier start's rules filter on" if code == 2 else "memory ran out") in said) in (
            (1, True),
            (2, True),
        )
        assert attached(lab) is not None
        assert door.Wire(lab).passes(ONE, ALLOWED) == {ONE: False, ALLOWED: True}
        first._prefix = []
        first.write_rules("one.toml", rule(ONE))
        first.start()
        assert door.Wire(lab).passes(ONE, ALLOWED) == {ONE: False, ALLOWED: True}


def test_the_pin_of_an_interface_that_is_gone_is_no_filter(lab: Lab) -> None:
    """It was taken for one, and an administrator read that the rules of an earlier start filter on."""
    with Daemon(lab, f'on_stop = "keep"{SETTINGS}', rules={"one.toml": rule(ONE)}) as first:
        (first.home / "bad.netset").write_text("")
        first.stop()
        lab.host.ip(f"link del {lab.links[0].host}")
        first.configure(f'on_stop = "keep"{SETTINGS}'.replace("[flows]", "[flows]\ncapacity = 1024"))
        kept(first).unlink()
        first.write_rules("one.toml", rule(ONE, "dorp"))
        assert "nothing is filtered, since the rules in force before are unknown" in outcome(first)[1]
        assert sorted(each.name for each in first.pins.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("[flows]\ncapacity = 1024\n[policy]\ndefault = 'dorp'\n", 'policy.default: "dorp" is not one of'),
        ("[detect.port_scan]\nports = 'x'\n", "detect.port_scan.ports"),
        ("[flows]\ncapacity = 1024\nlook_inside = true\n[detect.port_scan]\nports = 'x'\n", "detect.port_scan.ports"),
        ("[flows\n", "is not TOML"),
    ],
    ids=["value", "detector", "detector and kernel", "TOML"],
)
def test_mistakes_in_the_settings(lab: Lab, daemon: Daemon, wrong: str, told: str) -> None:
    """With the settings of yesterday come its rules: right as the files of today may be, they are not mixed."""
    daemon.configure(wrong)
    daemon.write_rules("two.toml", rule(TODAY))
    daemon.start()
    assert door.Wire(lab).passes(*ALL) == YESTERDAY
    status = daemon.status()
    assert told in status["config"]["error"]
    assert told in daemon.control("status").stdout.splitlines()[0]
    assert f"{daemon.config}:" in daemon.said()
    assert status["ledger"]["slots"] % 65536 == 0
    daemon.kill()
    daemon.start()
    assert door.Wire(lab).passes(*ALL) == YESTERDAY
    daemon.configure(SETTINGS)
    daemon.wait_status(lambda s: not s["config"]["error"], "the files in force")
    assert door.Wire(lab).passes(*ALL) == {**YESTERDAY, TWO: True, TODAY: False}


def test_settings_without_a_kept_set(lab: Lab, daemon: Daemon) -> None:
    kept(daemon).unlink()
    daemon.configure("[flows\n")
    code, said = outcome(daemon)
    assert code == 2
    assert "is not TOML" in said
    assert attached(lab) is None
