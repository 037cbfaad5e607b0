from __future__ import annotations

from typing import Any

import pytest
from detect_traffic import flow, talk, watch

from trafficmond.detect.detectors.exfiltration import Exfiltration
from trafficmond.detect.windows import BoundedTable
from trafficmond.model import Severity, Threat

HOST, OUT = "192.168.1.5", "203.0.113.50"
MIB = 1 << 20
DAY = 86400.0


def upload(mib: int, src: str = HOST, dst: str = OUT, back: int = 1, **fields: Any) -> dict[str, Any]:
    return talk(flow(src, dst, 443), bytes=mib * MIB, reply_bytes=back * MIB, **fields)


def test_an_upload_unlike_any_before_is_reported() -> None:
    detector = watch(Exfiltration)
    detector.see([upload(20, dst="198.51.100.1")])
    (threat,) = detector.see([upload(600)], after=DAY)
    assert (threat.src_ip, threat.severity) == (HOST, Severity.MEDIUM)
    assert threat.evidence["targets"] == [OUT]


def test_of_a_host_just_met_it_is_a_note() -> None:
    (threat,) = watch(Exfiltration).see([upload(600)])
    assert threat.severity == Severity.LOW


def test_a_backup_to_the_same_place_every_night_is_a_note_and_elsewhere_it_is_not() -> None:
    detector = watch(Exfiltration, memory=3600.0)
    nights = [detector.see([upload(900)], after=DAY) for _ in range(4)]
    assert [threat.severity for night in nights[1:] for threat in night] == [Severity.LOW] * 3
    (threat,) = detector.see([upload(900, dst="198.51.100.9")], after=DAY)
    assert threat.severity == Severity.MEDIUM


@pytest.mark.parametrize(
    ("source", "destination", "elsewhere"),
    [
        (HOST, "52.216.%d.9", "54.231.0.9"),
        ("fd00::5", "2600:1f18:%d::9", "2a05:d018::9"),
        ("fd00::5", "64:ff9b::52.216.%d.9", "64:ff9b::54.231.0.9"),
    ],
)
def test_backups_to_storage_with_many_addresses_are_notes(source: str, destination: str, elsewhere: str) -> None:
    detector = watch(Exfiltration, memory=3600.0)
    nights = [detector.see([upload(900, source, destination % night)], after=DAY) for night in range(4)]
    assert [threat.severity for night in nights[1:] for threat in night] == [Severity.LOW] * 3
    (threat,) = detector.see([upload(900, source, elsewhere)], after=DAY)
    assert threat.severity == Severity.MEDIUM


def test_marks_of_addresses_are_not_taken_for_those_of_networks() -> None:
    before = [("map", *field[1:]) if field[0] == "networks" else field for field in Exfiltration.fields]
    kept = BoundedTable(before, 64, 600.0).learned()
    with pytest.raises(ValueError, match="other fields"):
        watch(Exfiltration).detector.recall({"entities": kept}, 0.0)


@pytest.mark.parametrize(
    "row",
    [
        upload(400),
        upload(600, back=5000),  # a download with many acknowledgements
        upload(600, dst="192.168.1.9"),  # a backup in the house
        upload(600, src="203.0.113.9", dst="192.168.1.5"),  # somebody else's
        talk(flow("203.0.113.9", HOST, 443), bytes=MIB, reply_bytes=900 * MIB),  # a web server serves
    ],
    ids=["little", "download", "backup", "inbound", "server"],
)
def test_business_is_not(row: dict[str, Any]) -> None:
    assert watch(Exfiltration).see([row]) == []


def test_a_host_that_always_uploads_so_much_is_used_to_it() -> None:
    detector = watch(Exfiltration)
    found: list[list[Threat]] = [detector.see([upload(100)], after=60) for _ in range(400)]
    assert not any(found[30:])


def test_what_a_host_sends_that_nobody_watched_before_is_a_note() -> None:
    detector = watch(Exfiltration)
    found = [threat for _ in range(20) for threat in detector.see([upload(100)], after=60)]  # 2 GB in 20 minutes
    assert {threat.severity for threat in found} == {Severity.LOW}
