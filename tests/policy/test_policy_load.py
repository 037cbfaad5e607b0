"""A directory of rules, read whole: order, cache, and what happens to everything odd that can lie in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trafficmond.errors import ConfigError
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import load
from trafficmond.policy.load import Cache, is_ignored, load_policy
from trafficmond.policy.rules import ListSource


def write(path: Path, cidr: str, action: str = "drop", label: str = "") -> Path:
    path.write_text(f'[[rule]]\ncidr = "{cidr}"\naction = "{action}"\nlabel = "{label}"\n')
    return path


def test_order_is_from_weak_to_strong(tmp_path: Path) -> None:
    cidr_dir, saved = tmp_path / "cidr.d", tmp_path / "saved.toml"
    cidr_dir.mkdir()
    write(cidr_dir / "20-b.toml", "192.0.2.0/24", label="b")
    (cidr_dir / "15-original.json").write_text('{"permitted_cidrs": ["10.0.0.0/8", "10.1.0.0/16"]}')
    write(cidr_dir / "10-a.toml", "192.0.2.0/24", label="a")
    write(saved, "192.0.2.0/24", label="saved")
    drop = tmp_path / "drop.netset"
    drop.write_text("192.0.2.0/24\n")
    policy = load_policy(
        cidr_dir,
        [ListSource(drop, Action.DROP, "blocklist")],
        default=Action.DROP,
        permitted_cidrs=["127.0.0.0/8"],
        saved=saved,
        runtime=[{"cidr": "192.0.2.0/24", "action": "allow", "label": "runtime"}],
        allowlist=["198.51.100.1"],
        guard=[("198.51.100.2", "gateway")],
    )
    names = [rule.name for rule in policy.rules]
    expected = ["blocklist", "a", "15-original.json", "b", "settings", "saved", "runtime", "allowlist", "gateway"]
    assert names == expected
    assert [rule.reason for rule in policy.rules][-2:] == [Reason.ALLOWLIST, Reason.GUARD]
    assert policy.owner.tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 7, 8]
    assert [policy.prefixes_of(2).text(row) for row in range(2)] == ["10.0.0.0/8", "10.1.0.0/16"]
    assert (policy.default, policy.notes) == (Action.DROP, ())


def test_nothing_at_all() -> None:
    policy = load_policy(None)
    assert (policy.rules, len(policy.prefixes), policy.next_expiry(0.0)) == ((), 0, None)


def test_saved_file_within_the_directory_is_read_once_and_counts_as_saved(tmp_path: Path) -> None:
    saved = write(tmp_path / "00-trafficctl.toml", "192.0.2.0/24", label="saved")
    write(tmp_path / "10-a.toml", "192.0.2.0/24", label="a")
    assert [rule.name for rule in load_policy(tmp_path, saved=saved).rules] == ["a", "saved"]
    saved.unlink()
    assert [rule.name for rule in load_policy(tmp_path, saved=saved).rules] == ["a"]


def test_every_file_s_mistakes_are_reported(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", "192.0.2.0/40")
    (tmp_path / "b.json").write_text("{}")
    listed = tmp_path / "c.txt"
    listed.write_text("wrong\n")
    lists = [ListSource(listed, Action.DROP), ListSource(tmp_path / "missing.txt", Action.DROP)]
    with pytest.raises(ConfigError) as caught:
        load_policy(tmp_path, lists, runtime=[{"cidr": "x"}], allowlist=["y"], guard=[("z", "gateway")])
    where = {mistake.where for mistake in caught.value.mistakes}
    expected = {f"{tmp_path}/a.toml:2: rule[0].cidr", f"{tmp_path}/b.json", f"{listed}:1", f"{tmp_path}/missing.txt"}
    assert where == expected | {"runtime: rule[0].cidr", "runtime: rule[0].action", "policy.allowlist[0]", "guard[0]"}


def test_odd_directories(tmp_path: Path) -> None:
    """What is no rules file is passed over, with a note where somebody may have meant it to count."""
    write(tmp_path / "a.toml", "192.0.2.0/24")
    for name in (".hidden.toml", "a.toml~", ".a.toml.swp", "#a.toml#", "b.toml.tmp", "4913.swx"):
        (tmp_path / name).write_text("not TOML at all")
    (tmp_path / "sub.toml").mkdir()
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / ".#lock").symlink_to("nobody@nowhere:1")
    (tmp_path / "blocklist.netset").write_text("192.0.2.0/24\n")
    (tmp_path / "README").write_text("hello")
    policy = load_policy(tmp_path)
    assert [rule.path for rule in policy.rules] == [f"{tmp_path}/a.toml"]
    assert [note.where for note in policy.notes] == [f"{tmp_path}/README", f"{tmp_path}/blocklist.netset"]
    assert "[[list]]" in policy.notes[1].what


def test_a_listed_file_in_the_directory_is_a_list_only(tmp_path: Path) -> None:
    listed = tmp_path / "blocklist.netset"
    listed.write_text("192.0.2.0/24\n")
    policy = load_policy(tmp_path, [ListSource(listed, Action.DROP, direction=Direction.EGRESS)])
    assert [(rule.reason, rule.direction) for rule in policy.rules] == [(Reason.LIST, Direction.EGRESS)]
    assert policy.notes == ()


def test_a_missing_directory_is_noted(tmp_path: Path) -> None:
    [note] = load_policy(tmp_path / "none").notes
    assert "does not exist" in note.what


def test_unreadable_things_are_mistakes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    plain = write(tmp_path / "plain", "::/0")
    for path in (tmp_path, tmp_path / "pipe", plain / "below"):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_policy(None, [ListSource(path, Action.DROP)])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_policy(plain)


def test_cache_reads_what_changed_and_forgets_what_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = write(tmp_path / "1.toml", "192.0.2.0/24"), write(tmp_path / "2.toml", "198.51.100.0/24")
    read: list[str] = []
    parse = load.read_toml

    def counting(data: bytes, path: str) -> load.Rules:
        read.append(Path(path).name)
        return parse(data, path)

    monkeypatch.setattr(load, "read_toml", counting)
    cache = Cache()
    first = load_policy(tmp_path, cache=cache)
    assert [rule.name for rule in load_policy(tmp_path, cache=cache).rules] == [rule.name for rule in first.rules]
    assert read == ["1.toml", "2.toml"]
    replacement = write(tmp_path / ".2.toml", "203.0.113.0/24")
    stamp = two.stat()
    os.utime(replacement, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    replacement.rename(two)
    names = [rule.name for rule in load_policy(tmp_path, cache=cache).rules]
    assert (names, read[2:]) == (["192.0.2.0/24", "203.0.113.0/24"], ["2.toml"])
    one.unlink()
    assert len(load_policy(tmp_path, cache=cache).rules) == 1
    assert list(cache.files) == [two]


def test_cache_knows_that_a_list_means_something_else_now(tmp_path: Path) -> None:
    listed = tmp_path / "x.txt"
    listed.write_text("192.0.2.0/24\n")
    cache = Cache()
    for action in (Action.DROP, Action.MONITOR):
        [rule] = load_policy(None, [ListSource(listed, action)], cache=cache).rules
        assert rule.action is action


def test_a_broken_file_is_no_news_until_it_changes(tmp_path: Path) -> None:
    """The mistakes of a cached file are reported again, not lost."""
    write(tmp_path / "a.toml", "wrong")
    cache = Cache()
    for _ in range(2):
        with pytest.raises(ConfigError, match="not an address or prefix"):
            load_policy(tmp_path, cache=cache)
    write(tmp_path / "a.toml", "192.0.2.0/24")
    assert len(load_policy(tmp_path, cache=cache).rules) == 1


def test_too_much_is_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.toml", "192.0.2.0/24")
    write(tmp_path / "b.toml", "198.51.100.0/24")
    monkeypatch.setattr(load, "_MAX_PREFIXES", 1)
    with pytest.raises(ConfigError, match="at most 1 fit"):
        load_policy(tmp_path)
    monkeypatch.setattr(load, "_MAX_FILE_BYTES", 10)
    with pytest.raises(ConfigError, match="split it"):
        load_policy(tmp_path)


def test_next_expiry() -> None:
    tables = [{"cidr": "192.0.2.0/24", "action": "drop", "expires": moment} for moment in (30.0, 10.0, 20.0)]
    policy = load_policy(None, runtime=[*tables, {"cidr": "::/0", "action": "drop"}])
    assert [policy.next_expiry(now) for now in (0.0, 10.0, 25.0, 30.0)] == [10.0, 20.0, 30.0, None]


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("a.toml", False), ("a.toml~", True), (".a.toml", True), ("#a#", True), ("a.toml.swp", True), ("a.tmp", True)],
)
def test_is_ignored(name: str, ignored: bool) -> None:
    assert is_ignored(name) is ignored
