"""What detectors have learned, over a restart: nothing of it is lost, and a file that cannot be used stops nobody."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detect_traffic import T0, flow, flows, refused

from trafficmond.detect.engine import Engine
from trafficmond.learned import ASIDE, LEARNED_NAME, Learned, packed, unpacked
from trafficmond.sinks import messages


class Notes:
    """Where a daemon's messages go."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def note(self, message: messages.Message, text: str, fields: dict[str, Any]) -> None:
        assert fields["path"]
        self.told.append((message.id, text))


def learned(folder: Path, engine: Engine) -> tuple[Learned, Notes, dict[str, str]]:
    notes, warnings = Notes(), dict[str, str]()
    return Learned(folder / LEARNED_NAME, [engine], notes, warnings), notes, warnings  # type: ignore[arg-type]


def scanned(ports: range) -> Engine:
    engine = Engine()
    scan(engine, ports)
    return engine


def scan(engine: Engine, ports: range) -> list[str]:
    told = []
    for port in ports:
        at = T0 + 20 * port
        row = refused(flow("203.0.113.9", "192.0.2.1", port, first=at))
        told += engine.feed(flows([row]), at + 0.5)
    told += engine.feed(flows([]), T0 + 20 * ports.stop + 2)
    return [update.threat.detector for update in told]


def test_a_scan_that_continues_over_a_restart_has_no_new_budget(tmp_path: Path) -> None:
    keeper, _, _ = learned(tmp_path, scanned(range(10)))
    asyncio.run(keeper.recall())
    asyncio.run(keeper.keep(now=True))
    assert (tmp_path / LEARNED_NAME).stat().st_mode & 0o777 == 0o640
    engine = Engine()
    keeper, notes, warnings = learned(tmp_path, engine)
    asyncio.run(keeper.recall())
    assert scan(engine, range(10, 20)) == ["port_scan"]
    assert scan(Engine(), range(10, 20)) == []
    assert (notes.told, warnings) == ([], {})


def test_nothing_is_kept_before_what_was_kept_is_known(tmp_path: Path) -> None:
    path = tmp_path / LEARNED_NAME
    path.write_bytes(before := packed(scanned(range(10)).learned()))
    keeper, _, _ = learned(tmp_path, Engine())
    asyncio.run(keeper.keep(now=True))
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign", "next version", "other fields"])
def test_a_file_that_cannot_be_used_is_set_aside_and_said_once(damage: str, tmp_path: Path) -> None:
    path, whole = tmp_path / LEARNED_NAME, packed(scanned(range(10)).learned())
    spoilt = {
        "cut": whole[: len(whole) // 2],
        "flipped": bytes([*whole[:-40], whole[-40] ^ 1, *whole[-39:]]),
        "empty": b"",
        "foreign": b"PK\x03\x04" + bytes(100),
        "next version": whole.replace(b"learned 1\n", b"learned 2\n", 1),
        "other fields": packed(scanned(range(10)).learned() | {"port_scan.entities": np.zeros(3, [("key", "u8")])}),
    }
    path.write_bytes(spoilt[damage])
    engine = Engine()
    keeper, notes, warnings = learned(tmp_path, engine)
    asyncio.run(keeper.recall())
    ((told, text),) = notes.told
    assert told == messages.LEARNED_REPLACED.id
    assert str(path) + ASIDE in text
    assert (path.with_name(path.name + ASIDE)).read_bytes() == spoilt[damage]
    assert not path.exists()
    assert scan(engine, range(10, 20)) == []
    asyncio.run(keeper.keep(now=True))
    assert unpacked(path.read_bytes())
    assert len(notes.told) == 1
    assert not warnings


def test_a_folder_that_cannot_be_written_is_a_warning_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    keeper, notes, warnings = learned(folder, Engine())
    asyncio.run(keeper.recall())
    asyncio.run(keeper.keep(now=True))
    assert "No such file" in warnings[LEARNED_NAME]
    folder.mkdir()
    asyncio.run(keeper.keep(now=True))
    assert not warnings
    assert not notes.told
    asyncio.run(keeper.keep())  # it is not time yet
