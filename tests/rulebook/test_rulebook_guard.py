"""Guard, allowlist and force: whom rules keep out, and who may say so."""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from rulebook_book import DROP, Book

from trafficmond.config.filtering import Policy as PolicySettings
from trafficmond.errors import ConfigError


def test_forced_prefixes_leave_the_guard_until_given_back(book: Book) -> None:
    book.guard = [("192.0.2.0/30", "own address")]
    book.run(book.rules.add({"cidr": "192.0.2.0/24", "action": "drop"}, keep=False))
    assert book.action("192.0.2.1") == "guard allow"
    one = ipaddress.ip_network("192.0.2.1/32")
    book.run(book.rules.force_bans([one]))
    assert book.action("192.0.2.1") == "rule drop"
    assert {book.action(f"192.0.2.{host}") for host in (0, 2, 3)} == {"guard allow"}
    generation = book.rules.in_force.generation if book.rules.in_force else None
    book.run(book.rules.force_bans([one]))
    assert book.rules.in_force is not None
    assert book.rules.in_force.generation == generation, "nothing is made again for what is so already"
    book.run(book.rules.force_bans([]))
    assert book.action("192.0.2.1") == "guard allow"


def test_bans_forced_before_the_start_are_so_from_the_first_rules_on(book: Book) -> None:
    book.guard = [("198.51.100.7/32", "own address")]
    book.rules = book.restarted()
    book.run(book.rules.force_bans([ipaddress.ip_network("198.51.100.7/32")]))
    assert len(book.installed) == 1, "no rules yet"
    book.run(book.rules.load())
    assert book.action("198.51.100.7") == "rule drop"


def test_a_ban_that_ends_gives_nothing_back_that_a_rule_was_forced_on(book: Book) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    network = ipaddress.ip_network("192.0.2.0/24")
    book.run(book.rules.add({**DROP, "force": True}, keep=False))
    book.run(book.rules.force_bans([network]))
    book.run(book.rules.force_bans([]))
    assert book.action("192.0.2.1") == "rule drop"


def test_each_change_meets_the_lifelines_of_its_moment(book: Book) -> None:
    """Who has logged in since the last change is guarded by the next, whatever that is, and who has left is not."""
    book.run(book.rules.add({"cidr": "203.0.113.9/32", "action": "allow"}, keep=False))
    book.write("two.toml", '[[rule]]\ncidr = "203.0.113.0/24"\naction = "drop"\n')
    book.run(book.rules.load())
    book.guard = [("203.0.113.9/32", "open session (sshd)")]
    book.run(book.rules.remove("203.0.113.9/32", None, saved=False))
    assert book.action("203.0.113.9") == "guard allow"
    assert book.rules.guard == book.guard
    book.guard = []
    assert book.action("203.0.113.9") == "guard allow"
    book.run(book.rules.refresh())
    assert book.action("203.0.113.9") == "rule drop"


def test_lifelines_are_renewed_while_a_file_is_broken(book: Book) -> None:
    book.write("two.toml", "nonsense")
    with pytest.raises(ConfigError):
        book.run(book.rules.load())
    book.guard = [("198.51.100.7/32", "own address")]
    book.run(book.rules.refresh())
    assert (book.action("198.51.100.7"), book.action("198.51.100.8")) == ("guard allow", "rule drop")


def test_rules_of_a_last_run_are_left_alone_by_new_lifelines(book: Book) -> None:
    book.rules = book.restarted()
    book.run(book.rules.start_empty())
    book.run(book.rules.refresh())
    assert len(book.installed) == 1


def test_a_forced_rule_takes_the_allowlist_and_its_removal_gives_it_back(book: Book) -> None:
    allowing = replace(book.settings, policy=replace(PolicySettings(), allowlist=("192.0.2.0/24",)))
    book.run(book.rules.load(allowing))
    forced = {"cidr": "192.0.2.128/25", "action": "drop", "force": True}
    book.run(book.rules.add(forced, keep=False))
    assert (book.action("192.0.2.200"), book.action("192.0.2.1")) == ("rule drop", "allowlist allow")
    book.run(book.rules.remove("192.0.2.128/25", None, saved=False))
    assert book.action("192.0.2.200") == "allowlist allow"


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("by", ["its end", "removal", "one without force"])
def test_force_lasts_as_long_as_its_rule(book: Book, keep: bool, by: str) -> None:
    book.guard = [("192.0.2.1/32", "own address")]
    end = time.time() + 2.0
    ends = {"expires": datetime.fromtimestamp(end, UTC) if keep else end}
    for _ in range(3):
        book.run(book.rules.add({**DROP, "force": True} | (ends if by == "its end" else {}), keep=keep))
    assert book.action("192.0.2.1") == "rule drop"
    if by == "its end":
        time.sleep(max(0.0, end + 0.05 - time.time()))
        assert book.run(book.rules.expire_rules(time.time()))
    elif by == "removal":
        assert book.run(book.rules.remove("192.0.2.0/24", None, saved=keep)).before
    else:
        book.run(book.rules.add(DROP, keep=keep))
    assert book.action("192.0.2.1") == "guard allow"
    book.write("file.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\n')
    book.run(book.rules.load())
    assert book.action("192.0.2.1") == "guard allow"


def test_no_file_of_an_administrator_has_force(book: Book) -> None:
    book.write("file.toml", '[[rule]]\ncidr = "192.0.2.0/24"\naction = "drop"\nforce = true\n')
    with pytest.raises(ConfigError, match="force: is not a known key"):
        book.run(book.rules.load())
