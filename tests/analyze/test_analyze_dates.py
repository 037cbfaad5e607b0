"""Times in every order that programs and people write: each is the same moment."""

import pytest

from trafficmond.analyze.values import moment

MOMENT = 1699913600.25  # 2023-11-13 22:13:20.25 UTC


@pytest.mark.parametrize(
    "written",
    [
        *("2023/11/13 22:13:20.250", "2023-11-13 22:13:20,250", "2023-11-13T22:13:20.25Z", "2023-11-13t22:13:20.25z"),
        *("2023-11-13 23:13:20.25+01:00", "20231113T221320.250Z", "2023-11-13 22:13:20.250 UTC"),
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
    "written", ["", "now", "13.13.2023 22:13:20", "2023/11/32 00:00:00", "1,2,3", "22:13:20", "02/13.14:34:38.5"]
)
def test_what_is_no_time(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(written)
