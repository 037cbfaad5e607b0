from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from sink_events import NAMES, many, threat

from trafficmond import worker
from trafficmond.config.streams import Log
from trafficmond.sinks import fanout, journal, messages
from trafficmond.sinks.fanout import SinkSet


@pytest.fixture(autouse=True)
def _no_journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal, "SOCKET", tmp_path / "no-journal")
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def jsonl(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_log_gets_what_it_wants(tmp_path: Path) -> None:
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    sinks = SinkSet([Log("jsonl", a), Log("jsonl", b, actions=("drop",), min_severity="critical")])
    sinks.start()
    sinks.emit(many(5), NAMES)
    sinks.threat(threat(), "opened")
    sinks.close(time.monotonic() + 5)
    assert (len(jsonl(a)), b.exists()) == (6, False)
    assert [status["written"] for status in sinks.status()] == [6, 0]
    assert [status["path"] for status in sinks.status()] == [str(a), str(b)]


def test_a_threat_is_written_as_it_was_when_it_was_given(tmp_path: Path) -> None:
    sinks = SinkSet([Log("jsonl", tmp_path / "a")])
    given = threat()
    sinks.threat(given, "opened")
    given.count, given.evidence["unit"] = 99, "changed"
    sinks.start()
    sinks.close(time.monotonic() + 5)
    (found,) = jsonl(tmp_path / "a")
    assert (found["count"], found["evidence"]) == (40, {"unit": "ports", "sample": [22, 23, 25]})


def test_without_a_journal_its_entries_go_to_standard_error_and_status_says_so(
    capfd: pytest.CaptureFixture[str],
) -> None:
    sinks = SinkSet([Log()])
    sinks.start()
    sinks.emit(many(1), NAMES)
    sinks.note(messages.STARTED, "started on eth0")
    sinks.close(time.monotonic() + 5)
    (status,) = sinks.status()
    assert "there is no journal" in status["state"]
    error = capfd.readouterr().err
    assert (error.count("203.0.113.5"), error.count("started on eth0")) == (1, 1)


@pytest.mark.parametrize("log", [Log("jsonl"), Log("console", actions=(), min_severity="none")])
def test_notes_are_seen_once_whatever_the_logs(tmp_path: Path, log: Log, capfd: pytest.CaptureFixture[str]) -> None:
    sinks = SinkSet([log, Log("csv", tmp_path / "t.csv")])
    sinks.start()
    sinks.note(messages.CONFIG_REJECTED, "line 3 is wrong", {"path": "x"})
    sinks.close(time.monotonic() + 5)
    captured = capfd.readouterr()
    assert (captured.out + captured.err).count("line 3 is wrong") == 1


def test_reopen_reaches_the_files(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    sinks = SinkSet([Log("jsonl", path)])
    sinks.start()
    sinks.emit(many(1), NAMES)
    while not path.exists() or not path.stat().st_size:
        time.sleep(0.002)
    path.rename(tmp_path / "moved")
    sinks.reopen()
    end = time.monotonic() + 5
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.002)
    assert path.exists()
    sinks.close(time.monotonic() + 5)


def test_failure_loss_and_recovery_are_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(worker, "_RETRY_S", 0.01)
    folder = tmp_path / "logs"
    folder.write_text("a file where the folder should be")
    sinks = SinkSet([Log("jsonl", folder / "t.jsonl", buffer_size=10)])
    sinks.start()
    end = time.monotonic() + 5
    while not sinks.status()[0]["state"] and time.monotonic() < end:
        sinks.emit(many(4), NAMES)
    for _ in range(20):
        sinks.emit(many(4), NAMES)
    folder.unlink()
    while sinks.status()[0]["state"] and time.monotonic() < end:
        time.sleep(0.002)
    for _ in range(5):
        sinks.emit(many(0), NAMES)
    sinks.close(time.monotonic() + 5)
    error = capfd.readouterr().err
    assert (error.count("cannot write log"), error.count("is written again")) == (1, 1)
    assert error.count(" records") == 1
    assert fanout._LOSS_REPORT_SECONDS == 60
    status = sinks.status()[0]
    assert status["lost"] > 0
    assert status["written"] == len(jsonl(folder / "t.jsonl")) == 10


def test_a_log_that_cannot_be_written_gets_less_time_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "_STUCK_S", 0.1)
    (tmp_path / "file").write_text("")
    sinks = SinkSet([Log("jsonl", tmp_path / "file" / "a.jsonl"), Log("jsonl", tmp_path / "b.jsonl")])
    sinks.start()
    sinks.emit(many(4), NAMES)
    end = time.monotonic() + 5
    while not sinks.status()[0]["state"] and time.monotonic() < end:
        time.sleep(0.002)
    began = time.monotonic()
    sinks.close(began + 60)
    assert time.monotonic() - began < 20
    assert (sinks.status()[0]["lost"], len(jsonl(tmp_path / "b.jsonl"))) == (4, 4)


def test_other_logs_take_over_and_nothing_is_lost(tmp_path: Path) -> None:
    stays, changes, goes = tmp_path / "a.jsonl", tmp_path / "b.json", tmp_path / "c.jsonl"
    sinks = SinkSet([Log("jsonl", stays), Log("json", changes), Log("jsonl", goes)])
    sinks.start()
    sinks.emit(many(3000), NAMES)
    logs = [Log("csv", tmp_path / "d.csv"), Log("json", changes, buffer_size=9999), Log("jsonl", stays)]
    sinks.reconfigure(logs, time.monotonic() + 5)
    sinks.emit(many(3000, 3000), NAMES)
    sinks.close(time.monotonic() + 5)
    assert [row["src_port"] for row in jsonl(stays)] == list(range(6000))
    assert [row["src_port"] for row in json.loads(changes.read_text())] == list(range(6000))
    assert [row["src_port"] for row in jsonl(goes)] == list(range(3000))
    assert len((tmp_path / "d.csv").read_text().splitlines()) == 3001
    assert [(s["format"], s["lost"]) for s in sinks.status()] == [("csv", 0), ("json", 0), ("jsonl", 0)]


def test_what_a_log_that_goes_could_not_write_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    sinks = SinkSet([Log("jsonl", Path("/dev/full"))])
    sinks.start()
    sinks.emit(many(7), NAMES)
    sinks.reconfigure([], time.monotonic() + 0.05)
    end = time.monotonic() + 5
    error = ""
    while "lost 7 records" not in error and time.monotonic() < end:
        sinks.emit(many(0), NAMES)
        time.sleep(0.01)
        error += capfd.readouterr().err
    assert error.count("lost 7 records") == 1
    sinks.close(time.monotonic() + 5)


def test_a_loss_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    sinks = SinkSet([])
    for sink in sinks._notes:
        monkeypatch.setattr(sink, "note", lambda note: print(note.text, note.fields["what"]))
    for step, count in ((0, 0), (0, 3), (30, 5), (29, 5), (1, 5), (0, 9), (60, 9), (60, 9)):
        now[0] += step
        sinks.loss("store", "flows.db", count)
    assert capfd.readouterr().out.splitlines() == [
        "flows.db lost 3 records 3 of flows.db",
        "flows.db lost 2 records 2 of flows.db",
        "flows.db lost 4 records 4 of flows.db",
    ]


def test_under_systemd_notes_go_to_the_journal_and_not_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent: list[tuple[str, ...]] = []
    monkeypatch.setattr(journal, "SOCKET", tmp_path)
    monkeypatch.setattr(journal, "sendv", lambda *fields: sent.append(fields))
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    for logs in ([Log()], [Log("console")], [Log("csv", tmp_path / "t.csv")], []):
        sent.clear()
        sinks = SinkSet(logs)
        sinks.start()
        sinks.note(messages.ATTACHED, "watching eth0", {"interface": "eth0", "mode": None})
        sinks.close(time.monotonic() + 5)
        (fields,) = sent
        assert {"MESSAGE=watching eth0", "TRAFFICMON_INTERFACE=eth0", "TRAFFICMON_MODE=", "PRIORITY=5"} <= set(fields)
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("verbose", [True, False])
def test_people_see_more_when_they_ask(verbose: bool, capfd: pytest.CaptureFixture[str]) -> None:
    sinks = SinkSet([Log("console", actions=())], verbose=verbose)
    sinks.start()
    sinks.note(messages.UNBANNED, "a ban ended")
    sinks.note(messages.CONFIG_REJECTED, "urgently")
    sinks.close(time.monotonic() + 5)
    text = capfd.readouterr().out
    assert ("a ban ended" in text, "urgently" in text) == (verbose, True)
