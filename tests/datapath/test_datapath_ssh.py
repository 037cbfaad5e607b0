"""Which connections to SSH's port are logins, where no logind tells."""

from __future__ import annotations

from trafficmond.datapath.sessions import Logins
from trafficmond.datapath.sockets import Peer


def test_only_what_is_older_than_the_login_grace_time_and_in_use_is_a_login() -> None:
    logins = Logins()
    assert logins.judge([], 1000.0) == set()
    admin, guess, idle = Peer("192.0.2.1", 50000, 1.0), Peer("203.0.113.9", 50001, 0.1), Peer("192.0.2.2", 50002, 61.0)
    assert logins.judge([admin, idle], 1005.0) == set()
    assert logins.judge([admin, idle, guess], 1124.0) == set()
    assert logins.judge([admin, idle, guess], 1125.0) == {"192.0.2.1"}
    guesses_again = Peer("203.0.113.9", 50003, 0.1)  # a new connection of the same address is not as old
    assert logins.judge([admin, guesses_again], 1250.0) == {"192.0.2.1"}
    assert logins.judge([guesses_again], 1300.0) == set()


def test_what_was_there_before_the_daemon_may_be_of_any_age() -> None:
    logins = Logins()
    assert logins.judge([Peer("192.0.2.1", 50000, 1.0), Peer("192.0.2.2", 50001, 600.0)], 0.5) == {"192.0.2.1"}
