"""Connections held open within TLS, where the first answers are those of its handshake."""

from __future__ import annotations

import pytest
from detect_traffic import ACK, PSH, SYN, T0, flow, watch

from trafficmond.detect.detectors.slow_http import SlowHttp
from trafficmond.model import Severity

HANDSHAKE = 3  # segments in which a server sends its certificates


@pytest.mark.parametrize(("answers", "found"), [(HANDSHAKE, [Severity.LOW]), (8, [])])
def test_header_lines_that_get_no_answer_are_found_and_questions_with_answers_are_not(
    answers: int, found: list[Severity]
) -> None:
    watching, told = watch(SlowHttp), []
    for turn in range(1, 7):
        pieces, segments = 3 + turn, min(answers, HANDSHAKE + turn)
        told += watching.see(
            [
                flow(
                    "203.0.113.7", "192.0.2.80", 443, id=number, new=turn == 1, last=T0 + 8 * turn,
                    tcp_flags=SYN | ACK | PSH, reply_tcp_flags=SYN | ACK | PSH, reply_first_flags=SYN | ACK,
                    packets=2 * pieces, payload_packets=pieces, payload_bytes=850 + 40 * turn, bytes=2500, d_packets=1,
                    reply_packets=2 * pieces, reply_payload_packets=segments, reply_payload_bytes=800 * segments,
                    d_reply_packets=1, d_reply_bytes=66, first=T0,
                )
                for number in range(1, 151)
            ],
            after=8.0,
        )  # fmt: skip
    assert [threat.severity for threat in told][-1:] == found
