"""Times in every order that programs and people write: each is the same moment."""

import csv
import io
from datetime import UTC, datetime

import pytest
from readings import Reading

from trafficmond.analyze.dates import Order
from trafficmond.analyze.source import HEAD
from trafficmond.analyze.values import moment

MOMENT = 1699913600.25  # 2023-11-13 22:13:20.25 UTC


@pytest.mark.parametrize(
    "written",
    [
        *("2023/11/13 22:13:20.250", "2023-11-13 22:13:20,250", "2023-11-13T22:13:20.25Z", "2023-11-13t22:13:20.25z"),
        *("2023-11-13 23:13:20.25+01:00", "20231113T221320.250Z", "2023-11-13 22:13:20.250 UTC"),
        *("2023-11-13 23:13:20.25 +01:00", "2023-11-13 22:13:20.25 +0000 UTC", "Mon Nov 13 22:13:20.25 UTC 2023"),
        *("Nov 13, 2023 @ 22:13:20.250", "Mon Nov 13 22:13:20.25 2023", "Mon, 13 Nov 2023 22:13:20.25"),
        *("13.11.2023 22:13:20.250", "11/13/2023 22:13:20.250", "11/13/2023, 10:13:20.250 PM", "13/11/23 22:13:20.25"),
        *(
            "13/Nov/2023:22:13:20.25 +0000",
            "2023-11-13 10:13:20.250 PM",
            "2023-317 22:13:20.25",
            "2023.317.22:13:20.25",
        ),
        *("1699913600.25", "1699913600,25", "1699913600250", "1.69991360025E9"),
    ],
)
def test_a_time_in_any_order(written: str) -> None:
    assert moment(written) == pytest.approx(MOMENT, abs=1e-6)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "now",
        "13.13.2023 22:13:20",
        "2023/11/32 00:00:00",
        "1,2,3",
        "22:13:20",
        "02/13.14:34:38.5",
        "2023-366 00:00:00",
    ],
)
def test_what_is_no_time(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(written)


def _connections(*times: str, duration: str = "") -> bytes:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["ts", "id.orig_h", "id.resp_h", "proto", "orig_pkts", "orig_ip_bytes", "duration"])
    table.writerows([time, "192.0.2.1", "198.51.100.2", "udp", 1, 100, duration] for time in times)
    return text.getvalue().encode()


@pytest.mark.parametrize(
    ("times", "dates", "damaged", "noted"),
    [
        (("12/11/2023 10:00:00", "13/11/2023 10:00:00"), {"2023-11-12", "2023-11-13"}, 0, False),
        (("11/12/2023 10:00:00", "11/13/2023 10:00:00"), {"2023-11-12", "2023-11-13"}, 0, False),
        (("12-11-23 10:00", "13-11-23 10:00", "Nov 12, 2023 @ 9:00:00.5"), {"2023-11-12", "2023-11-13"}, 0, False),
        (("11/12/2023 10:00:00", "11/12/2023 10:00:01"), {"2023-11-12"}, 0, True),
        (("11/13/2023 10:00:00", "13/11/2023 10:00:00"), {"2023-11-13"}, 1, False),
        (("11/12/2023 10:00:00",) * 2000 + ("13/11/2023 10:00:00",), {"2023-11-12"}, 1, True),
    ],
)  # fmt: skip
def test_day_and_month_are_in_one_order_in_a_file(
    reading: Reading, times: tuple[str, ...], dates: set[str], damaged: int, *, noted: bool
) -> None:
    rows, stats = reading(_connections(*times))
    assert {f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in rows["first"].tolist()} == dates
    assert stats.parse_errors.total == damaged
    assert Order(_connections(*times)[:HEAD]).unknown == noted
    assert moment("13/11/2023 22:13:20.25") == MOMENT  # of no file


@pytest.mark.parametrize(("written", "seconds"), [("2,5", 2.5), ("0,250", 0.25), ("1h2m", 3720.0)])
def test_a_duration(reading: Reading, written: str, seconds: float) -> None:
    rows, _ = reading(_connections("1699913600,0", duration=written))
    assert rows["last"].max() == pytest.approx(1699913600 + seconds)


def test_a_date_is_no_duration(reading: Reading) -> None:
    rows, stats = reading(_connections("1699913600", duration="2023-11-13 22:13:20"))
    assert not len(rows)
    assert stats.parse_errors.total == 1
