"""Situations in general terms, as traffic: what must be found, and what must not be taken for it."""

from __future__ import annotations

import numpy as np
import pytest
from world_attacks import STRANGER, beacon, reflection
from world_book import DAY, HOUR, MONDAY, Book, host
from world_house import LAPTOP, ROUTER, WEB
from world_judging import judge, text

from trafficmond.model import Severity, Threat

MEDIUM = Severity.MEDIUM


def threats(book: Book, interval_s: float = 1.0) -> list[Threat]:
    return judge(book.rows(), interval_s)


def kinds(found: list[Threat], least: Severity = Severity.LOW) -> set[str]:
    return {threat.detector for threat in found if threat.severity >= least}


# ---- reflection ----


def test_a_crowd_of_reflectors_with_small_answers() -> None:
    book = Book(1)
    told = reflection(book, HOUR, WEB)
    assert [threat.dst_ip for threat in threats(book) if threat.detector == "amplification"] == [told.dst_ip]


def test_a_busy_resolver_of_whom_only_the_answers_are_seen() -> None:
    book = Book(1)
    at = np.sort(book.rng.uniform(0, 300, 3000))
    servers = book.rng.choice(book.public(600), 3000)
    book.udp(at, servers, LAPTOP, book.ports(3000), book.rng.integers(60, 500, 3000), sport=53)
    assert kinds(threats(book)) == set()


def test_questions_to_a_server_of_whom_only_they_are_seen() -> None:
    book, clients = Book(1), np.array([host(f"192.168.10.{last}") for last in range(100, 122)])
    for client in clients:  # leases renewed, 350 bytes each
        book.udp(book.rng.uniform(0, 183, 50), int(client), ROUTER, 67, 308, sport=68)
    assert kinds(threats(book)) == set()


# ---- beacons ----


def test_who_calls_us_with_a_rhythm_is_a_visitor() -> None:
    book = Book(1)
    for visitor in book.public(20).tolist():
        book.tcp(book.rhythm(0, 6 * HOUR, 60, 0.02), visitor, WEB, 8443, 300, 900)
    assert kinds(threats(book, 10.0)) == set()


def test_an_implant_whose_server_is_down_is_noted() -> None:
    book, home = Book(1), host("203.0.113.7")
    for call in np.arange(0, 19 * 42.0, 42.0):  # a client that retries a reset, from the same port
        sport = int(book.ports(1)[0])
        book.refused(call + np.arange(3) * 0.5, LAPTOP, home, 80, sport=sport)
    (threat,) = [threat for threat in threats(book) if threat.detector == "beacon"]
    assert (threat.src_ip, threat.dst_ip, threat.severity) == ("192.168.10.22", "203.0.113.7", Severity.LOW)
    assert threat.evidence["mean_gap_s"] == pytest.approx(42, abs=0.5)
    assert threat.evidence["failed_share"] == 1.0


def test_a_stager_before_a_rhythm() -> None:
    book, home = Book(1), host("203.0.113.7")
    sizes = np.array([154, 644, 388, *book.rng.integers(189, 198, 27)])
    book.tcp(np.cumsum([5.0, *np.full(29, 5.08)]), LAPTOP, home, 8081, sizes, 200)
    assert kinds(threats(book)) == {"beacon"}


@pytest.mark.parametrize(("every", "jitter", "calls"), [(2.2, 0.07, 50), (300.0, 0.01, 100)])
def test_a_poll_of_the_web_is_a_note(every: float, jitter: float, calls: int) -> None:
    book = Book(1)
    beacon(book, 0, LAPTOP, every, jitter, calls, dport=80)
    assert {threat.severity for threat in threats(book, 10.0)} == {Severity.LOW}


def test_a_monitor_that_looks_after_many_hosts_outside_is_a_note() -> None:
    book = Book(1)
    for watched in book.public(12).tolist():
        book.tcp(book.rhythm(0, 2 * HOUR, 60, 0.01), LAPTOP, watched, 5432, 90, 110, 0.03)
    assert kinds(threats(book, 10.0), MEDIUM) == set()


def test_a_program_that_several_of_our_hosts_have_is_a_note() -> None:
    book, service = Book(1), host("203.0.113.7")
    for last in range(101, 106):
        book.tcp(book.rhythm(0, 4 * HOUR, 120, 0.02), host(f"192.168.10.{last}"), service, 7070, 200, 300)
    assert kinds(threats(book, 10.0), MEDIUM) == set()


# ---- sweeps ----


def peers(book: Book, count: int) -> tuple[np.ndarray, np.ndarray]:
    known = book.public(count)
    return known, book.rng.random(count) < 0.2


def test_a_file_sharing_client_that_starts_over_udp() -> None:
    book = Book(1)
    known, alive = peers(book, 480)
    ports = np.where(book.rng.random(480) < 0.13, 6881, book.rng.integers(1025, 65535, 480))
    book.udp(book.rng.uniform(0, 60, 480), LAPTOP, known, ports, 109, np.where(alive, 300, 0), sport=51413)
    assert kinds(threats(book)) == set()


def swarm(book: Book) -> None:
    """A file-sharing client over TCP: peers at all sorts of ports, a fifth at the default one, a third at home."""
    known, when = book.public(500), np.sort(book.rng.uniform(0, 1200, 500))
    ports = np.where(book.rng.random(500) < 0.2, 6881, book.rng.integers(1025, 65535, 500))
    alive = book.rng.random(500) < 0.3
    book.silent(when[~alive], LAPTOP, known[~alive], ports[~alive], 3)
    book.tcp(when[alive], LAPTOP, known[alive], ports[alive], book.heavy(alive.sum(), 50_000), 200_000, 60.0)


def test_a_swarm_that_is_dialled_over_tcp_and_a_worm_beside_it() -> None:
    book = Book(1)
    swarm(book)
    assert kinds(threats(book)) == set()
    book = Book(1)
    swarm(book)
    book.silent(1300 + np.arange(200) * 0.5, LAPTOP, book.public(200), 2323)
    (threat,) = threats(book)
    assert (threat.detector, threat.severity) == ("host_sweep", Severity.HIGH)


def test_files_from_one_server_excuse_no_sweep() -> None:
    book = Book(1)
    book.tcp(np.arange(80) * 3.0, LAPTOP, host("203.0.113.21"), book.rng.integers(30_000, 60_000, 80), 0, 50_000, 1.0)
    book.silent(300 + np.arange(60) * 0.5, LAPTOP, book.public(60), 2323)
    book.tcp(900.0, LAPTOP, STRANGER, 443, 300, 900)
    assert kinds(threats(book), MEDIUM) == {"host_sweep"}


def test_a_list_of_peers_that_is_dialled_again() -> None:
    book = Book(1)
    known, _ = peers(book, 81)
    for turn in range(3):
        book.silent(turn * 66 + np.sort(book.rng.uniform(0, 55, 81)), LAPTOP, known, 6881, 3)
    assert kinds(threats(book)) == set()


def test_a_sweep_that_ends_before_anybody_could_come_back_is_reported_all_the_same() -> None:
    book = Book(1)
    book.silent(np.arange(60) * 0.3, LAPTOP, book.public(60), 2323)
    book.tcp(300.0, LAPTOP, STRANGER, 443, 300, 900)
    (threat,) = threats(book)
    assert (threat.detector, threat.severity, threat.count) == ("host_sweep", MEDIUM, 60)


def test_a_sweep_stays_a_sweep_however_many_hosts_it_reaches() -> None:
    book = Book(1)
    book.silent(np.arange(20_000) * 0.1, LAPTOP, book.public(20_000), 2323)
    (threat,) = threats(book)
    assert threat.count == 20_000
    assert threat.last_seen - threat.first_seen > 1990


# ---- floods ----


def test_handshakes_that_were_finished_and_said_nothing_fill_no_backlog() -> None:
    book, server = Book(1), host("198.51.100.53")
    book.tcp(book.rng.uniform(0, 31, 580), LAPTOP, server, 53, 0, 0, 0.04)
    book.tcp(book.rng.uniform(0, 31, 820), LAPTOP, server, 53, 40, 120, 1.0)
    assert kinds(threats(book)) == set()


def test_clients_of_a_service_that_is_gone_ask_again_and_are_a_note_at_most() -> None:
    book = Book(1)
    book.silent(book.rng.uniform(0, 60, 9000), np.repeat(book.public(1500), 6), WEB, 8883, 3)
    assert kinds(threats(book), MEDIUM) == set()


def test_a_few_hosts_of_ours_whose_database_starts_again_are_refused_and_flood_nothing() -> None:
    book, servers = Book(1), np.array([host(f"192.168.20.{last}") for last in range(10, 16)])
    book.refused(book.rng.uniform(0, 60, 9000), np.resize(servers, 9000), host("192.168.20.9"), 3306)
    assert kinds(threats(book), MEDIUM) == set()


@pytest.mark.parametrize("begins", [0.0, 0.6])  # in one second, or in two
def test_a_flood_over_random_ports_by_one_address_is_reported_beside_the_scan(begins: float) -> None:
    book = Book(1)
    book.refused(begins + np.sort(book.rng.uniform(0, 0.7, 9400)), STRANGER, WEB, book.rng.integers(1, 65535, 9400))
    assert {"port_scan", "syn_flood"} <= kinds(threats(book))


def test_answers_of_a_router_seen_one_way_are_no_flood() -> None:
    book = Book(1)
    for walk in np.arange(0, 4200, 600.0):
        book.udp(walk, ROUTER, LAPTOP, 50161, 5270 * 300, 0, 1.0, packets=5270, sport=161)
    assert kinds(threats(book)) == set()


def test_a_stream_to_the_port_of_a_service_is_a_flood_however_large_its_packets() -> None:
    book = Book(1)
    book.udp(0.0, STRANGER, WEB, 80, 60_000 * 1024, 0, 20.0, packets=60_000)
    assert kinds(threats(book), MEDIUM) == {"volume"}


def test_answers_to_a_question_that_went_to_a_group_were_asked_for() -> None:
    book, devices = Book(1), np.array([host(f"192.168.10.{last}") for last in range(100, 140)])
    for search in np.arange(0, 120, 20.0):  # UPnP, ssdp:all
        book.udp(search, LAPTOP, host("239.255.255.250"), 1900, 390, 0, 2.0, packets=3, sport=50999)
        book.udp(
            np.repeat(search + book.rng.uniform(0, 1, 40), 6), np.repeat(devices, 6), LAPTOP, 50999, 330, sport=1900
        )
    assert kinds(threats(book)) == set()
    book.udp(
        200 + np.sort(book.rng.uniform(0, 10, 9000)), np.tile(book.public(300), 30), LAPTOP, 50999, 330, sport=1900
    )
    assert "amplification" in kinds(threats(book))


def test_transfers_of_which_one_side_is_seen_are_no_scan() -> None:
    book = Book(1)
    book.tcp(np.arange(199) * 1.0, LAPTOP, WEB, book.rng.integers(30_000, 60_000, 199), 0, 50_000, 0.6)
    rows = book.rows()
    for name in ("reply_packets", "reply_bytes", "reply_payload_bytes", "reply_tcp_flags", "reply_first_flags"):
        rows[name] = 0
    assert kinds(judge(rows, 1.0)) == set()


def test_pings_of_which_a_sample_is_seen_are_no_sweep() -> None:
    book, watched = Book(1), np.array([host(f"192.168.20.{last}") for last in range(10, 70)])
    for turn in np.arange(0, 3600, 60.0):
        at = turn + book.rng.uniform(0, 50, 60)
        asked, answered = (book.rng.random((2, 60)) < 0.1).astype(bool)
        seen = asked | answered
        book.ping(at[seen], LAPTOP, watched[seen], 56)
        rows = book.rows()
        mine = rows["start"] >= rows["start"].max() - 60
        for prefix, there in (("", asked[seen]), ("reply_", answered[seen])):
            gone = np.flatnonzero(mine & (rows["start"] >= MONDAY + turn))[~there[np.argsort(at[seen])]]
            for name in ("packets", "bytes", "payload_bytes"):
                rows[prefix + name][gone] = 0
    assert kinds(judge(book.rows(), 1.0)) == set()


def test_a_situation_that_returns_is_the_one_it_was() -> None:
    book = Book(1)
    for burst in np.arange(0, 5, 1.0) * 1200:
        book.udp(burst + np.zeros(8), book.public(8), WEB, 9000, 20_000 * 100, 0, 10.0, packets=20_000)
    assert len([threat for threat in threats(book) if threat.detector == "volume"]) == 1


def test_a_clock_that_stands_still_gives_no_rates() -> None:
    book = Book(1)
    book.udp(np.zeros(1582), book.public(1582), WEB, 9000, 100)
    rows = book.rows()
    rows["start"] = rows["end"] = 0.0
    assert kinds(judge(rows)) == set()


# ---- ports and passwords ----


def test_calls_of_which_one_side_is_seen_are_no_scan() -> None:
    book, phone, exchange = Book(1), host("192.168.10.60"), host("203.0.113.60")
    ports = book.rng.choice(np.arange(10000, 20000, 2), 25, replace=False)
    book.udp(np.arange(25) * 60.0, phone, exchange, ports, 160 * 50 * 55, 0, 55.0, packets=50 * 55)  # G.711, RFC 3551
    assert kinds(threats(book), MEDIUM) == set()
    book.udp(2000 + np.arange(25) * 2.0, phone, exchange, ports + 1, 88, 0, 1.0, packets=11)
    assert kinds(threats(book), MEDIUM) == {"port_scan"}


def test_ten_ports_at_once_are_noted() -> None:
    book = Book(1)
    book.silent(np.arange(10) * 1e-4, STRANGER, WEB, np.array([21, 22, 23, 25, 80, 110, 139, 443, 445, 3389]))
    (threat,) = threats(book)
    assert (threat.detector, threat.severity) == ("port_scan", Severity.LOW)


def test_a_deployment_tool_with_many_sessions_guesses_nothing() -> None:
    book, servers = Book(1), np.array([host(f"192.168.20.{last}") for last in range(10, 30)])
    for play in range(12):  # each a session, longer or larger than a refusal, and not alike
        at = play * 300.0 + book.rng.uniform(0, 60, 20)
        book.tcp(at, LAPTOP, servers, 22, book.rng.integers(8_000, 90_000, 20), 20_000, 9.0, greets=True)
    assert kinds(threats(book, 10.0), MEDIUM) == set()


def test_a_server_that_lets_strangers_in_is_not_guessed_at_by_all_of_them() -> None:
    book = Book(1)
    who = np.repeat(book.public(30), 10)
    at, sizes = book.rng.uniform(0, DAY / 2, 300), book.heavy(300, 9000)
    book.tcp(at, who, WEB, 22, 3500, sizes, 3.0, greets=True)  # a public git server
    assert kinds(threats(book, 10.0)) == set()


def test_many_guessers_are_one_threat_with_all_of_them() -> None:
    book = Book(1)
    who = np.repeat(book.public(80), 5)
    book.tcp(book.rng.uniform(0, 8 * HOUR, 400), who, WEB, 22, 2000, 2500, 4.0, greets=True)
    (threat,) = threats(book, 10.0)
    assert (threat.detector, threat.src_ip, threat.dst_ip) == ("brute_force", None, "192.168.30.80")
    assert len(threat.evidence["sources"]) == 80
    assert sum(source["count"] for source in threat.evidence["sources"]) == 400


def test_a_spray_over_kerberos_is_found_and_logins_are_not() -> None:
    book, server = Book(1), host("192.168.20.5")
    book.udp(np.arange(30) * 0.18, LAPTOP, server, 88, 180, 120)
    assert kinds(threats(book)) == {"brute_force"}
    book = Book(1)
    book.udp(np.arange(30) * 0.18, LAPTOP, server, 88, 1400, 1500)  # tickets
    assert kinds(threats(book)) == set()


def test_a_few_refusals_by_kerberos_at_once_are_noted_and_who_logs_in_is_not() -> None:
    book, server = Book(1), host("192.168.20.5")
    book.udp(np.arange(13) * 0.18, LAPTOP, server, 88, 180, 120)
    (threat,) = threats(book)
    assert (threat.detector, threat.severity, threat.src_ip) == ("brute_force", Severity.LOW, "192.168.10.22")
    book = Book(1)
    for login in np.arange(15) * 0.5:  # each is told first that a proof is wanted (RFC 4120), and has its tickets then
        book.udp(login, LAPTOP, server, 88, 180, 190)
        book.udp(login + 0.05 * np.arange(1, 4), LAPTOP, server, 88, 1400, 1500)
    assert kinds(threats(book)) == set()


# ---- slow and carried ----


def test_requests_that_wait_for_their_answer_hold_nothing_open() -> None:
    book = Book(1)
    for turn in range(5):  # long polling: asked whole at once, answered after a minute
        book.tcp(turn * 60 + book.rng.uniform(0, 5, 400), book.public(400), WEB, 443, 700, 300, 55.0)
    assert kinds(threats(book)) == set()


def test_names_of_ordinary_length_carry_nothing() -> None:
    book, resolver = Book(1), host("192.168.10.2")
    count = 5000
    book.udp(np.sort(book.rng.uniform(0, 900, count)), LAPTOP, resolver, 53, book.rng.integers(40, 95, count),
             book.rng.integers(80, 400, count))  # fmt: skip
    assert kinds(threats(book)) == set()


@pytest.mark.parametrize(
    ("resolver", "port", "name", "padded"),
    [("192.168.10.2", 53, 60, 150), ("192.168.10.2", 853, 152, 280), ("9.9.9.9", 443, 215, 345)],
)
def test_a_tunnel_over_tcp_tls_or_https_is_a_note_and_names_are_not(
    resolver: str, port: int, name: int, padded: int
) -> None:
    book = Book(1)
    book.questions(0, LAPTOP, host(resolver), port, 600, padded, 500, 200.0)
    (threat,) = threats(book)
    assert (threat.detector, threat.severity, threat.evidence["ports"]) == ("tunnel", Severity.LOW, [port])
    book = Book(1)
    book.questions(np.arange(0, 180, 20.0), LAPTOP, host(resolver), port, 200, name, 500, 19.0)
    assert kinds(threats(book)) == set()


def test_a_tunnel_over_quic_is_a_note_and_names_are_not() -> None:
    book, resolver, hello = Book(1), host("9.9.9.9"), 2 * 1200
    book.udp(0, LAPTOP, resolver, 853, hello + 600 * 296, 600 * 500, 200.0, packets=602)
    (threat,) = threats(book)
    assert (threat.detector, threat.severity, threat.evidence["ports"]) == ("tunnel", Severity.LOW, [853])
    book = Book(1)
    book.udp(np.arange(0, 300, 3.0), LAPTOP, resolver, 853, hello + 4 * 168, 3000, 2.0, packets=6)
    book.udp(0, LAPTOP, resolver, 853, hello + 600 * 168, 600 * 500, 200.0, packets=602)
    assert kinds(threats(book)) == set()


def test_the_web_is_no_resolver_and_a_transfer_of_a_zone_no_tunnel() -> None:
    book = Book(1)
    book.questions(np.arange(0, 180, 20.0), LAPTOP, host("203.0.113.7"), 443, 200, 600, 500, 19.0)
    book.tcp(np.arange(0, 300, 1.0), LAPTOP, host("192.168.10.2"), 53, 60, 800_000, 0.9)
    book.tcp(np.arange(0, 300, 1.0), LAPTOP, host("9.9.9.9"), 853, 150 + 600, 500 + 3000, 0.2)  # a connection each
    assert kinds(threats(book)) == set()


def test_pings_that_are_answered_with_what_they_carried_are_pings() -> None:
    book = Book(1)
    book.ping(np.arange(0, 3600, 60.0), LAPTOP, WEB, 56, packets=60, lasts=59.0)
    assert kinds(threats(book)) == set()


def test_every_threat_says_what_it_is() -> None:
    book = Book(1)
    beacon(book, 0, LAPTOP)
    assert all("192.168.10.22" in text(threat) for threat in threats(book))
