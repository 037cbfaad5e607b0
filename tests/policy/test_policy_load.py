"""A directory of rules, read whole: order, cache, and what happens to everything odd that can lie in it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from policy_loading import load_policy

from trafficmond.errors import ConfigError
from trafficmond.geo.reading import open_geoip
from trafficmond.model import Action, Direction, Reason
from trafficmond.policy import collect, load
from trafficmond.policy.collect import Cache, is_ignored
from trafficmond.policy.lastgood import KeptSet, LastGood
from trafficmond.policy.rules import ListSource, Rules
from trafficmond.services import parse


def write(path: Path, cidr: str, action: str = "drop", label: str = "") -> Path:
    path.write_text(f'[[rule]]\ncidr = "{cidr}"\naction = "{action}"\nlabel = "{label}"\n')
    return path


def next_start(last_good: LastGood) -> LastGood:
    """What the next start knows of it, once these rules were in force."""
    last_good.commit(KeptSet({"policy": {}}, last_good.copies() or {}))
    return LastGood(last_good._folder)


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
    assert (policy.rules, len(policy.prefixes)) == ((), 0)


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
    (tmp_path / "sub").mkdir()
    (tmp_path / ".#lock").symlink_to("nobody@nowhere:1")
    (tmp_path / "blocklist.netset").write_text("192.0.2.0/24\n")
    (tmp_path / "README").write_text("hello")
    policy = load_policy(tmp_path)
    assert [rule.path for rule in policy.rules] == [f"{tmp_path}/a.toml"]
    assert [note.where for note in policy.notes] == [f"{tmp_path}/README", f"{tmp_path}/blocklist.netset"]
    assert ".toml or .json, lists in .netset" in policy.notes[0].what
    assert "[[list]]" in policy.notes[1].what


@pytest.mark.parametrize(
    "break_it",
    [
        lambda path: path.symlink_to("gone"),
        lambda path: path.symlink_to(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
    ],
    ids=["dangling", "loop", "device", "folder", "pipe"],
)
@pytest.mark.parametrize("name", ["a.toml", "b.json", "c.netset"])
def test_what_cannot_be_read_is_what_it_last_was(tmp_path: Path, break_it: Callable[[Path], object], name: str) -> None:
    folder = tmp_path / "cidr.d"
    folder.mkdir()
    texts = {"a.toml": '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n', "b.json": '{"permitted_cidrs": ["::/8"]}'}
    for each, text in (texts | {"c.netset": "198.51.100.0/24\n"}).items():
        (folder / each).write_text(text)
    lists, cache, last_good = [ListSource(folder / "c.netset", Action.DROP)], Cache(), LastGood(tmp_path / "kept")
    before = load_policy(folder, lists, cache=cache, last_good=last_good)
    (folder / name).unlink()
    break_it(folder / name)
    for again in (last_good, next_start(last_good)):  # and at the next start
        policy = load_policy(folder, lists, cache=cache, last_good=again)
        assert policy.rules == before.rules
        (note,) = policy.notes
        assert note.where == str(folder / name)
        assert "cannot be read" in note.what
        assert "stays in force (1 prefix)" in note.what
    with pytest.raises(ConfigError, match="cannot be read"):  # a check has nothing to fall back on
        load_policy(folder, lists)
    policy = load_policy(folder, lists, last_good=LastGood(tmp_path / "empty"))
    assert len(policy.rules) == len(before.rules) - 1
    assert "nothing of it is in force" in policy.notes[0].what


def test_a_folder_that_is_gone_is_what_it_last_was(tmp_path: Path) -> None:
    folder = tmp_path / "cidr.d"
    folder.mkdir()
    one, two = write(folder / "1.toml", "192.0.2.0/24"), write(folder / "2.toml", "198.51.100.0/24")
    last_good = LastGood(tmp_path / "kept")
    before = load_policy(folder, last_good=last_good)
    folder.rename(tmp_path / "away")
    for again in (last_good, next_start(last_good)):
        policy = load_policy(folder, last_good=again)
        assert policy.rules == before.rules
        assert [str(note) for note in policy.notes] == [
            f"{folder}: does not exist; the rules that were last read from it stay in force"
        ]
    (tmp_path / "away").rename(folder)
    two.unlink()  # a file that is taken away is no file that broke
    assert [rule.path for rule in load_policy(folder, last_good=last_good).rules] == [str(one)]
    assert last_good.within(folder) == [one]


@pytest.mark.parametrize(
    ("content", "prefixes", "told"),
    [
        ("192.0.2.0/24\n942.180.233.122\n203.0.113.0/24\n", 2, ":2: '942.180.233.122' is not "),
        ("", 1, "has no prefixes any more; its last good content stays in force (1 prefix)"),
        ("# made at 02:00\n\n", 1, "has no prefixes any more"),
        ("<html>\n<body>\n203.0.113.1\n</body></html>\n", 1, ":1: '<html>' is not "),
        ("\0\0", 1, "is not plain text"),
        (None, 1, "cannot be read: No such file or directory; its last good content stays"),
    ],
    ids=["line", "emptied", "comments", "a page", "binary", "vanished"],
)
def test_a_broken_list_breaks_itself_only(tmp_path: Path, content: str | None, prefixes: int, told: str) -> None:
    folder, listed = tmp_path / "cidr.d", tmp_path / "evil.netset"
    folder.mkdir()
    listed.write_text("198.51.100.0/24\n")
    lists, last_good = [ListSource(listed, Action.DROP)], LastGood(tmp_path / "kept")
    load_policy(folder, lists, last_good=last_good)
    write(folder / "10-mine.toml", "192.0.2.5/32")
    if content is None:
        listed.unlink()
    else:
        listed.write_text(content)
    for again in (last_good, next_start(last_good)):
        policy = load_policy(folder, lists, last_good=again)
        assert [len(policy.prefixes_of(index)) for index in (0, 1)] == [prefixes, 1]
        assert told in str(policy.notes[0])
    listed.write_text("203.0.113.0/24\n203.0.114.0/24\n")
    policy = load_policy(folder, lists, last_good=last_good)
    assert (len(policy.prefixes_of(0)), policy.notes) == (2, ())


def test_a_list_that_is_cut_off_stays_what_it_was(tmp_path: Path) -> None:
    """What is left of its last line may be a much wider prefix."""
    listed, whole = tmp_path / "evil.netset", "198.51.100.0/24\n203.0.113.0/24\n192.0.2.0/24\n"
    lists, last_good = [ListSource(listed, Action.DROP)], LastGood(tmp_path / "kept")
    told = "cut off; if it is complete, add a newline at its end; its last good content stays in force (3 prefixes)"
    for length, prefixes, cut in ((44, 3, 0), (43, 3, 0), (30, 3, 1), (29, 3, 1), (12, 3, 1), (31, 2, 0)):
        listed.write_text(whole[:length])
        for again in (last_good, next_start(last_good)):
            policy = load_policy(None, lists, last_good=again)
            assert len(policy.prefixes) == prefixes
            assert [told in note.what for note in policy.notes] == [True] * cut


def test_nothing_is_waited_for(tmp_path: Path) -> None:
    """A pipe with a writer that says nothing, which took the place of a file after a look at it."""
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR)
    try:
        with pytest.raises(OSError, match="not a regular file"):
            collect._read_stable(tmp_path / "pipe")
    finally:
        os.close(writer)


def test_a_list_may_be_refused_for_one_line(tmp_path: Path) -> None:
    listed = tmp_path / "evil.netset"
    listed.write_text("198.51.100.0/24\n")
    lists, last_good = [ListSource(listed, Action.DROP, on_error="refuse")], LastGood(tmp_path / "kept")
    load_policy(None, lists, last_good=last_good)
    listed.write_text("192.0.2.0/24\noops\n203.0.113.0/24\n")
    policy = load_policy(None, lists, last_good=last_good)
    assert policy.prefixes.text(0) == "198.51.100.0/24"
    assert policy.notes[0].where == f"{listed}:2"
    with pytest.raises(ConfigError, match="oops"):
        load_policy(None, lists)


def test_notes_on_lines_that_a_list_no_longer_has_are_gone(tmp_path: Path) -> None:
    listed = tmp_path / "evil.netset"
    listed.write_text("198.51.100.0/24\noops\n192.0.2.1/24\n")
    lists, last_good = [ListSource(listed, Action.DROP)], LastGood(tmp_path / "kept")
    assert any("'oops'" in note.what for note in load_policy(None, lists, last_good=last_good).notes)
    listed.write_text("")
    (note,) = load_policy(None, lists, last_good=last_good).notes
    assert note.what == "has no prefixes any more; its last good content stays in force (2 prefixes)"


def test_names_of_any_octets_and_lengths(tmp_path: Path) -> None:
    folder = tmp_path / "cidr.d"
    folder.mkdir()
    write(Path(os.fsdecode(os.fsencode(folder) + b"/a\xff.toml")), "192.0.2.1")
    long = write(folder / ("\u043f" * 60 + ".toml"), "192.0.2.2")
    last_good = LastGood(tmp_path / "kept")
    policy = load_policy(folder, last_good=last_good)
    assert [rule.path for rule in policy.rules] == [str(long)]
    assert [str(note) for note in policy.notes] == [
        f"{folder}/a\\xff.toml: is not read: its name is not UTF-8; rename it"
    ]
    long.unlink()
    long.mkdir()
    policy = load_policy(folder, last_good=next_start(last_good))
    assert [rule.path for rule in policy.rules] == [str(long)]


def test_copies_that_cannot_be_kept_are_no_reason_to_stop(tmp_path: Path) -> None:
    write(tmp_path / "1.toml", "192.0.2.0/24")
    (tmp_path / "kept").write_text("no folder")
    policy = load_policy(tmp_path, last_good=LastGood(tmp_path / "kept"))
    assert len(policy.rules) == 1
    assert "cannot keep copies" in policy.notes[-1].what


def test_a_listed_file_in_the_directory_is_a_list_only(tmp_path: Path) -> None:
    listed = tmp_path / "blocklist.netset"
    listed.write_text("192.0.2.0/24\n")
    policy = load_policy(tmp_path, [ListSource(listed, Action.DROP, direction=Direction.EGRESS)])
    assert [(rule.reason, rule.direction) for rule in policy.rules] == [(Reason.LIST, Direction.EGRESS)]
    assert policy.notes == ()


def test_the_only_database_that_cannot_be_read_is_noted(tmp_path: Path) -> None:
    policy = load_policy(None, geography=open_geoip([tmp_path / "countries.mmdb"]))
    assert [str(note) for note in policy.notes] == [
        f"{tmp_path}/countries.mmdb: cannot be read: No such file or directory"
    ]


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
    parse = collect.read_toml

    def counting(data: bytes, path: str, **more: Any) -> Rules:
        read.append(Path(path).name)
        return parse(data, path, **more)

    monkeypatch.setattr(collect, "read_toml", counting)
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


def test_a_change_in_place_that_keeps_size_and_time_is_one(tmp_path: Path) -> None:
    """As rsync and cp -p make it; files of a reproducible build all have one time."""
    path, cache = write(tmp_path / "1.toml", "192.0.2.0/24"), Cache()
    before, stamp = load_policy(tmp_path, cache=cache), path.stat()
    path.write_text(path.read_text().replace("192.0.2", "192.0.3"))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert path.stat().st_size == stamp.st_size
    assert [rule.name for rule in before.rules] == ["192.0.2.0/24"]
    assert [rule.name for rule in load_policy(tmp_path, cache=cache).rules] == ["192.0.3.0/24"]


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
    monkeypatch.setattr(collect, "_MAX_FILE_BYTES", 10)
    with pytest.raises(ConfigError, match="split it"):
        load_policy(tmp_path)


@pytest.mark.parametrize(
    ("name", "ignored"),
    [("a.toml", False), ("a.toml~", True), (".a.toml", True), ("#a#", True), ("a.toml.swp", True), ("a.tmp", True)],
)
def test_is_ignored(name: str, ignored: bool) -> None:
    assert is_ignored(name) is ignored


def test_a_list_may_be_for_some_services(tmp_path: Path) -> None:
    listed = tmp_path / "scanners.netset"
    listed.write_text("192.0.2.7\n198.51.100.0/24\n")
    cache = Cache()
    for texts in (["tcp/22", "53"], []):
        policy = load_policy(None, [ListSource(listed, Action.DROP, services=parse(texts))], cache=cache)
        (rule,) = policy.rules
        assert (rule.services, len(policy.prefixes)) == (parse(texts), 2), "another meaning is another reading"
