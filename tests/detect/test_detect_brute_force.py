from __future__ import annotations

import random
from typing import Any

import pytest
from detect_traffic import FIRST_PAYLOAD, SPOKE_FIRST, T0, Watch, datagram, flow, many, refused, talk, watch

from trafficmond.detect.detectors.brute_force import BruteForce
from trafficmond.detect.distributed import SOURCES, SourceLists
from trafficmond.model import Severity, Threat

A, B = "203.0.113.9", "192.0.2.22"


def logins(count: int, port: int, sent: int = 900, got: int = 1500, **fields: Any) -> list[dict[str, Any]]:
    return [talk(flow(A, B, port, sport=20000 + n), sent + n % 7, got, **fields) for n in range(count)]


@pytest.mark.parametrize(("port", "count"), [*((port, 40) for port in (21, 22, 23, 445, 3389, 5900)), (993, 220)])
def test_guessing_at_services_that_ask_for_a_password(port: int, count: int) -> None:
    (threat,) = watch(BruteForce).see(logins(count, port))
    assert (threat.src_ip, threat.dst_ip, threat.technique) == (A, B, "T1110")
    assert threat.severity == Severity.HIGH
    assert threat.evidence["proven"] is True


@pytest.mark.parametrize(("port", "size"), [(5060, 402), (88, 200)])
def test_exchanges_over_tcp_prove_no_datagrams(port: int, size: int) -> None:
    asked = {"bits": FIRST_PAYLOAD, "d_packets": 1, "d_reply_packets": 1}
    forged = [
        {**talk(datagram(A, B, port, sport=20000 + n), size, size), "packets": 1, "reply_packets": 1, **asked}
        for n in range(300)
    ]
    found = watch(BruteForce).see([*logins(4, port, sent=size, got=size), *forged])
    assert [(each.severity, each.evidence["proven"]) for each in found] == [(Severity.HIGH, False)]


@pytest.mark.parametrize("forged", [0, 150])
def test_an_answered_login_proves_no_unanswered_ones_at_other_hosts(forged: int) -> None:
    logins = [talk(flow(A, host, 22, first=T0 - 2), 2000, 2500, last=T0) for host in many(160)]
    for row in logins[:forged]:
        row |= {name: 0 for name in row if name.startswith("reply_")}
    severity = Severity.LOW if forged else Severity.MEDIUM
    (threat,) = watch(BruteForce).see(logins)
    assert (threat.technique, threat.severity, threat.evidence["proven"]) == ("T1110.003", severity, not forged)


def test_one_of_our_own_hosts_is_looked_at_first() -> None:
    rows = [{**row, "src": "192.168.1.9"} for row in logins(40, 22)]
    assert watch(BruteForce).see(rows)[0].severity == Severity.MEDIUM


def test_four_guessers_at_once_with_several_guesses_a_connection() -> None:
    guesser, found = watch(BruteForce), []
    for turn in range(49):  # in nine minutes, from inside
        row = {**logins(1, 22, 2600, 3200)[0], "src": "192.168.1.9", "first": guesser.now + 1, "sport": 20000 + turn}
        found += guesser.see([row], after=10)
    assert found
    assert found[0].count < 35


@pytest.mark.parametrize(
    ("messages", "packets", "lasts", "pause"),
    [
        (12, 17, 34.7, 1),  # hydra -c 6 at a server with PAM
        (12, 17, 13.8, 45),
        (10, 16, 9.0, 70),
        (8, 20, 2.3, 180),  # a guess a connection, each segment acknowledged by itself
    ],
)
def test_guessers_who_take_their_time_are_no_logins(messages: int, packets: int, lasts: float, pause: int) -> None:
    rng, guesser, found = random.Random(1), watch(BruteForce), []
    for turn in range(140):
        times = {"first": guesser.now + 0.5, "last": guesser.now + 0.5 + lasts * rng.uniform(0.9, 1.1)}
        row = talk(flow(A, B, 22, sport=20000 + turn, **times), 1300, 1900, payload_packets=messages, packets=packets)
        found += guesser.see([row], after=lasts + pause * rng.uniform(0.7, 1.3))
    assert max(threat.severity for threat in found) is Severity.HIGH


def test_a_program_that_fetches_each_minute_guesses_nothing() -> None:
    fetch = watch(BruteForce)
    for turn in range(240):
        row = {**logins(1, 22, 3300, 4200)[0], "src": "192.168.1.9", "first": fetch.now + 1, "sport": 20000 + turn}
        assert fetch.see([row], after=59) == []


def test_on_any_port_a_server_that_speaks_first_gives_itself_away() -> None:
    rows = [*logins(20, 902, reply_bits=SPOKE_FIRST), *logins(30, 902)]
    (threat,) = watch(BruteForce).see(rows)
    assert threat.evidence["ports"] == [902]


def test_slow_guessing_adds_up() -> None:
    guesser, found = watch(BruteForce), []
    for turn in range(60):  # one in three minutes
        found += guesser.see([{**row, "first": guesser.now + 170} for row in logins(1, 22)], after=178)
        assert turn < 25 or found
    assert 8 <= found[0].count < 12


def by_strangers(services: list[str], strangers: int, at: float) -> list[dict[str, Any]]:
    """A guess at each service by each of so many strangers."""
    guess = {"first": at - 3.0, "last": at, "reply_bits": SPOKE_FIRST}
    sources = many(strangers, "198.51.0.0/16")
    return [talk(flow(one, dst, 22), 2000, 2500, **guess) for dst in services for one in sources]


def test_a_flood_of_strangers_is_counted_whole_and_listed_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch with tens of thousands took seconds."""
    listed, add = [], SourceLists.add
    monkeypatch.setattr(SourceLists, "add", lambda self, *given: listed.append(given) or add(self, *given))
    found = watch(BruteForce).see(by_strangers([B], 3000, T0))
    assert {(each.dst_ip, each.count, each.evidence["hosts"]) for each in found} == {(B, 3000, SOURCES)}
    assert len(listed) == SOURCES


def test_many_services_at_once_keep_no_list_from_growing() -> None:
    watched, services = watch(BruteForce), many(70, "192.0.2.0/24")
    found = [each for n in range(2) for each in watched.see(by_strangers(services, 40, T0 + 2 * n))]
    assert len({each.dst_ip for each in found} - {None}) == 64


def test_a_database_whose_answers_are_all_alike_refuses() -> None:
    assert watch(BruteForce).see(logins(100, 3306, 120, 160))


@pytest.mark.parametrize(
    "rows",
    [
        [talk(flow(A, B, 80, sport=20000 + n), 900, 1500) for n in range(500)],  # a load test
        [talk(flow(A, B, 443, sport=20000 + n), 900, 1500 + 91 * n % 9000) for n in range(500)],  # a crawler
        logins(500, 7000),
        logins(7, 22),  # two people mistype
        logins(10, 22, payload_packets=14),  # somebody works
        [talk(flow(A, B, 3306, sport=n), 100 + 37 * n % 900, 200 + 991 * n % 9000) for n in range(1, 300)],  # an app
        [talk(flow(A, B, 22, sport=n), 500_000, 200_000_000) for n in range(1, 60)],  # backups
        [talk(flow(source, B, 22)) for source in many(60)],  # a class of students
        [talk(flow(A, host, 22), 12_000, 9000) for host in many(60)],  # an administrator's tool
        [refused(flow(A, B, 22, sport=n)) for n in range(1, 300)],
    ],
    ids=["http", "https", "other", "few", "work", "database", "backup", "crowd", "ansible", "refused"],
)
def test_work_is_no_guessing(rows: list[dict[str, Any]]) -> None:
    assert watch(BruteForce).see(rows) == []


def test_its_table_is_bounded() -> None:
    detector = watch(BruteForce, capacity=64)
    detector.see(talk(flow(source, B, 22)) for source in many(2000))
    assert detector.detector.counters()["entities"] <= 64


@pytest.mark.parametrize(
    ("source", "port", "sent", "lasts", "severity"),
    [
        (A, 873, 100, 0.2, None),  # a mirror looks for news each few minutes
        (A, 119, 40, 0.2, None),  # a reader of news
        (A, 4949, 170, 0.9, None),  # Munin
        (A, 6667, 40, 0.3, None),  # a chat server turns the same client away
        (A, 6667, 40, 2.2, Severity.LOW),  # each is held back
        (A, 5061, 900, 0.2, None),  # a telephone registers
        (A, 22022, 1900, 2.2, Severity.HIGH),  # SSH at another port
        (A, 22, 1900, 2.2, Severity.HIGH),
        ("192.168.1.9", 445, 1900, 0.2, Severity.LOW),  # a program of ours looks at a share
        ("192.168.1.9", 22, 1900, 2.2, Severity.HIGH),
    ],
)
def test_who_calls_each_few_minutes_guesses_where_programs_do_not(
    source: str, port: int, sent: int, lasts: float, severity: Severity | None
) -> None:
    caller, pauses, found = watch(BruteForce), random.Random(1), []
    for turn in range(30 if source == A else 260):
        pause = pauses.uniform(180, 420) if source == A else pauses.uniform(10, 30)
        row = {"sport": 20000 + turn, "first": caller.now + 1, "last": caller.now + 1 + lasts}
        greets = {"reply_bits": SPOKE_FIRST} if port in (119, 873, 4949, 6667, 22022) else {}
        found += caller.see([talk(flow(source, "192.168.1.22", port, **row), sent, 700, **greets)], after=pause)
    assert max((threat.severity for threat in found), default=None) == severity


def programs() -> dict[str, list[dict[str, Any]]]:
    """Calls of programs that nobody should be banned for, in order of time."""
    rng = random.Random(1)
    by_clock = [turn * 10.0 for turn in range(100) if rng.random() > 0.1]  # some were lost
    backing_off = [sum(min(10 + 0.6 * turn * turn, 600) for turn in range(count)) for count in range(40)]
    jittered = [turn * 60 * rng.uniform(0.96, 1.04) for turn in range(90)]
    key = (22, 3300, 2900, 0.3, 6)
    calls: dict[str, tuple[list[float], tuple[int, int, int, float, int]]] = {
        "a tunnel whose key is refused, packets lost": (by_clock, key),
        "a tunnel whose key is refused, later each time": (backing_off, key),
        "WinRM each minute": (jittered, (5985, 3800, 4200, 0.4, 6)),
        "shares mapped again": (jittered, (445, 1700, 1500, 0.2, 9)),
        "the certificate of RDP": (jittered, (3389, 530, 1300, 0.1, 3)),
    }
    rows = {}
    for name, (at, (port, sent, got, lasts, messages)) in calls.items():
        rows[name] = [
            talk(flow(A, B, port, sport=20000 + turn, first=T0 + start, last=T0 + start + lasts), sent,
                 got, packets=messages + 5, payload_packets=messages)
            for turn, start in enumerate(at)
        ]  # fmt: skip
    return rows


@pytest.mark.parametrize("name", programs())
def test_programs_that_call_again_and_again_are_notes_at_most(name: str) -> None:
    caller, found, held = watch(BruteForce), [], []
    for turn, row in enumerate(programs()[name]):
        if name.endswith("lost") and turn % 7 == 0:
            held = [row]  # its end was lost: it is known minutes later
            continue
        late, held = (held, []) if turn % 7 == 5 else ([], held)
        found += caller.see([row, *late], after=max(0.0, row["first"] + 1 - caller.now))
    assert {threat.severity for threat in found} <= {Severity.LOW}


def test_one_of_ours_whose_key_is_refused_outside_by_the_clock_is_a_note() -> None:
    caller, found = watch(BruteForce), []
    for row in programs()["a tunnel whose key is refused, packets lost"]:
        found += caller.see([{**row, "src": "192.168.1.9"}], after=max(0.0, row["first"] + 1 - caller.now))
    assert {threat.severity for threat in found} <= {Severity.LOW}


@pytest.mark.parametrize(("port", "messages", "lasts"), [(22, 7, 2.2), (445, 5, 0.1), (3389, 6, 0.4)])
def test_who_pauses_by_chance_guesses(port: int, messages: int, lasts: float) -> None:
    guesser, pauses, found = watch(BruteForce), random.Random(2), []
    for turn in range(60):
        times = {"sport": 20000 + turn, "first": guesser.now + 1, "last": guesser.now + 1 + lasts}
        row = talk(flow(A, B, port, **times), 1300, 900, payload_packets=messages, packets=messages + 5)
        found += guesser.see([row], after=pauses.uniform(30, 90))
    assert max(threat.severity for threat in found) == Severity.HIGH


@pytest.mark.parametrize(("spread", "severity"), [(130, Severity.LOW), (9, Severity.HIGH)])
def test_answers_of_a_database_vary_unless_they_are_refusals(spread: int, severity: Severity) -> None:
    rng, at = random.Random(1), [T0 + turn * 0.2 for turn in range(600)]
    calls = [flow(A, B, 3306, sport=20000 + turn, first=first, last=first + 0.3) for turn, first in enumerate(at)]
    (threat,) = watch(BruteForce).see([talk(row, 260, 350 + rng.randint(-spread, spread)) for row in calls], 121)
    assert threat.severity == severity


@pytest.mark.parametrize(("messages", "found"), [(1, {Severity.LOW}), (3, set())])
def test_a_client_that_publishes_by_mqtt_was_not_refused(messages: int, found: set[Severity]) -> None:
    rng, client, told = random.Random(1), watch(BruteForce), []
    for turn in range(140):
        row = flow(A, B, 1883, sport=20000 + turn, first=client.now, last=client.now + 0.1)
        told += client.see([talk(row, 44 * messages, 4, payload_packets=messages)], after=rng.uniform(0.3, 0.7))
    assert {threat.severity for threat in told} == found


def asked(number: int, at: float, sent: int, got: int) -> dict[str, Any]:
    return talk(flow(A, B, 80, sport=20000 + number, first=at), sent, got)


@pytest.mark.parametrize("read", [0, 10])
def test_what_a_client_read_minutes_ago_hides_no_quick_guesses(read: int) -> None:
    client, chance, found = watch(BruteForce), random.Random(1), []
    for turn in range(100):  # pages of different sizes
        rows = [asked(read * turn + n, client.now, 300 + n, chance.randrange(1000, 90000)) for n in range(read)]
        assert client.see([*rows, flow("192.168.0.9", "192.168.0.1", 9)], after=1) == []
    for turn in range(600):
        at, sent = client.now + chance.random() / 10, 400 + chance.randrange(20)
        found += client.see([asked(2 * turn + n, at + n / 2, sent + 3 * n, 1500) for n in range(2)], after=1)
        if found:
            break
    assert [threat.severity for threat in found] == [Severity.LOW]
    assert turn < 240  # four times the window


@pytest.mark.parametrize("back", [0, 7200])
def test_a_clock_that_was_set_back_hides_no_slow_guesses(back: int) -> None:
    client, chance, found = watch(BruteForce), random.Random(2), []
    for turn in range(120):
        client.now -= back if turn == 30 else 0
        row = asked(turn, client.now, 400 + chance.randrange(20), 1500)
        found += client.see([row], after=3 + 6 * chance.random())
    assert {threat.severity for threat in found} == {Severity.LOW}


def many_guesses(service: Watch, hosts: int, each: int, **fields: Any) -> list[Threat]:
    """What is found while so many strangers make so many tries each."""
    strangers = many(hosts, "198.51.100.0/24")
    rows = [talk(flow(one, B, 22, sport=n, first=service.now), 900) for n in range(each) for one in strangers]
    return service.see({**row, **fields} for row in rows)


def test_many_guessers_are_counted_anew_after_days_of_quiet() -> None:
    service = watch(BruteForce)
    assert many_guesses(service, 12, 5)[0].count == 60
    service.now += 3 * 86400
    assert many_guesses(service, 12, 1) == []
    service.now += 3 * 86400
    (threat,) = many_guesses(service, 11, 4)
    assert threat.summary.startswith("11 hosts made 44 ")
    assert threat.count == 44
    assert threat.first_seen >= service.now - 60
    assert len(threat.evidence["sources"]) == 12  # with one of earlier days


@pytest.mark.parametrize("days", [0, 5])
def test_what_strangers_did_days_ago_hides_no_many_guessers(days: int) -> None:
    service = watch(BruteForce)
    many_guesses(service, 1, 1)
    many_guesses(service, 50, 10, payload_bytes=90_000)
    service.now += days * 86400
    assert [len(threat.evidence["sources"]) for threat in many_guesses(service, 20, 4)] == [20] * (days > 0)
