"""What each part takes from the settings, and what only a restart puts in force."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trafficmond import part_options
from trafficmond.config.filtering import Policy, PrefixList
from trafficmond.config.settings import Flows, Settings
from trafficmond.config.streams import Log
from trafficmond.urls import HiddenUrl

OLD = Settings()


def test_nothing_waits_for_a_restart_that_did_not_change() -> None:
    assert part_options.at_restart(OLD, replace(OLD, interfaces=("eth0",), on_stop="keep")) == []


def test_what_a_running_data_path_cannot_change_waits() -> None:
    new = replace(OLD, loader="bcc", egress=False, pin_dir=Path("/x"), flows=Flows(capacity=1024, look_inside=True))
    new = replace(new, xdp_mode="skb")
    late = ["xdp_mode", "loader", "egress", "pin_dir", "flows.capacity", "flows.look_inside"]
    assert part_options.at_restart(OLD, new) == late
    running = part_options.switched(part_options.options(OLD), new)
    assert running == part_options.options(OLD)


def test_switches_of_the_programs_change_at_once() -> None:
    new = replace(OLD, policy=replace(Policy(), default="drop", drop_malformed=True))
    running = part_options.switched(part_options.options(OLD), new)
    assert (running.drop_malformed, running.established) == (True, new.policy.established)
    assert running.drop_unparsed
    passing = replace(new, policy=replace(new.policy, unparsed="pass"))
    assert not part_options.switched(part_options.options(new), passing).drop_unparsed
    assert not part_options.options(OLD).drop_unparsed  # where all may pass, what cannot be judged may as well
    assert not part_options.options(OLD).established  # replies need no following where all may pass


def test_what_changed_is_reported_setting_by_setting() -> None:
    new = replace(OLD, interfaces=("eth0",), store=replace(OLD.store, max_age=3600.0), detect={"beacon": 7})
    assert list(part_options.differences(OLD, OLD)) == []
    assert list(part_options.differences(OLD, new)) == [
        ("interfaces", OLD.interfaces, ("eth0",)),
        ("store.max_age", OLD.store.max_age, 3600.0),
        ("detect.beacon", None, 7),
    ]


def test_what_changed_is_reported_as_a_person_would_write_it() -> None:
    secret = PrefixList(url=HiddenUrl("https://user:pass@lists.example/t0ken/a.netset"), label="far", refresh=86400.0)
    told = part_options.in_words(
        (secret, PrefixList(path=Path("/srv/a.netset"), action="allow", ports=("tcp/22", "53")))
    )
    assert told == (
        '[{url = \'https://lists.example/...\', refresh = "1d", label = "far"}, '
        '{path = "/srv/a.netset", action = "allow", ports = ["tcp/22", "53"]}]'
    )
    assert part_options.in_words(()) == "[]"
    assert part_options.in_words(("eth0", "wg*")) == "[eth0, wg*]"
    assert part_options.in_words(HiddenUrl("https://lists.example/t0ken")) == "'https://lists.example/...'"
    assert part_options.in_words((Log(format="jsonl", path=Path("/a")),)) == '[{format = "jsonl", path = "/a"}]'
    assert [part_options.in_words(each) for each in (2.0, None, "drop", True)] == ["2.0", "None", "drop", "True"]
