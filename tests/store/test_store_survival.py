"""What happens to the disk and to the process: full, killed, locked, held open by a reader."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opened_store import flushed, opened
from store_reports import until

from trafficmond.flows.batch import Batch
from trafficmond.flows.names import Names
from trafficmond.store import writer as writer_module
from trafficmond.store.store import Store
from trafficmond.store.writer import Limits

Ask = Callable[..., list[tuple[Any, ...]]]
Make = Callable[..., Batch]
KILLS = int(os.environ.get("TRAFFICMON_KILLS", "12"))  # `make soak` sets 1000


@contextlib.contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file may grow beyond `limit` bytes: what a full disk looks like to one process (write fails, EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_no_space_pauses_storing_and_loses_nothing_that_fits_the_queue(
    path: Path, names: Names, make_reports: Make, ask: Ask
) -> None:
    store = opened(path, Limits(1e9, 1 << 30, queue_rows=50_000), clock=lambda: 0.0)
    store.put(make_reports(1000), names)
    assert flushed(store, 5)
    with file_size_limit(path.with_name("flows.db-wal").stat().st_size + 65536):
        for _ in range(30):
            store.put(make_reports(1000), names)
        until(lambda: store.status().state != "ok")
        assert store.status().queue > 0
        assert store.put(make_reports(30_000), names) > 0
    assert flushed(store, 20)
    status = store.status()
    store.close(5)
    assert status.state == "ok"
    assert status.rows == 61_000 - status.lost_rows
    assert ask("SELECT count(*) FROM flows") == [(status.rows,)]
    assert ask("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.root
def test_a_full_disk(tmp_path: Path, names: Names, make_reports: Make) -> None:
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", mount], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("needs to mount a tmpfs; run as root outside a container that forbids it")
    try:
        store = opened(mount / "flows.db", Limits(1e9, 1 << 30, queue_rows=30_000), clock=lambda: 0.0)
        for _ in range(40):
            store.put(make_reports(1000), names)
            time.sleep(0.01)
        until(lambda: store.status().state != "ok")
        assert "full" in store.status().state
        subprocess.run(["mount", "-o", "remount,size=64m", mount], check=True)
        assert flushed(store, 20)
        status = store.status()
        assert (status.state, status.rows + status.lost_rows) == ("ok", 40_000)
        store.close(5)
        with contextlib.closing(sqlite3.connect(mount / "flows.db")) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT count(*) FROM flows").fetchone() == (status.rows,)
    finally:
        subprocess.run(["umount", "-l", mount], check=True)


TESTS = Path(__file__).parent, Path(__file__).parents[1]
CHILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from opened_store import flushed, opened
from store_reports import NAMES, reports
from trafficmond.store.records import AuditEntry
from trafficmond.store.writer import Limits
store = opened(Path(sys.argv[1]), Limits(1e9, 1 << 20), clock=lambda: 0.0)
put = 0
while True:
    store.put(reports(700), NAMES)
    store.audit(AuditEntry(0.0, 0, "root", 1, "ban", str(put))).result(10)
    assert flushed(store, 10)
    put += 1
    print(put, flush=True)
"""


def test_sigkill_in_mid_write_keeps_every_acknowledged_row(path: Path, ask: Ask) -> None:
    """Rows acknowledged (flushed) before a kill are there after it; partitions rotate and are dropped meanwhile."""
    audited = written = 0
    for turn in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, path, *map(str, TESTS)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        for _ in range(1 + turn % 4):
            child.stdout.readline()
        time.sleep(0.001 * (turn % 7))
        child.send_signal(signal.SIGKILL)
        acknowledged = 1 + turn % 4 + len(child.stdout.read().split())
        child.wait(10)
        written += acknowledged
        audited += acknowledged
        ((stored,),) = ask("SELECT count(*) FROM audit")
        assert audited <= stored <= audited + 1
        audited = stored
        ((total,),) = ask("SELECT coalesce(sum(flows), 0) FROM rollups WHERE kind = 'total' AND period = 'day'")
        assert 700 * written <= total <= 700 * stored
    assert ask("PRAGMA integrity_check") == [("ok",)]
    assert ask("SELECT count(*) FROM flows") == ask("SELECT sum(rows) FROM partitions")
    store = opened(path, Limits(1e9, 1 << 20), clock=lambda: 0.0)
    tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name GLOB 'flows_*'"
    until(lambda: ask(tables) == ask("SELECT count(*) FROM partitions"))
    store.close(5)


def test_a_reader_that_stays_bounds_the_wal_and_is_reported(
    path: Path, names: Names, make_reports: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_LEAST_WAL_LIMIT_BYTES", 1 << 20)
    store = opened(path, Limits(1e9, 1 << 20, queue_rows=1 << 20), clock=lambda: 0.0)
    store.put(make_reports(10), names)
    assert flushed(store, 5)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM flows").fetchone() == (10,)
    wal = path.with_name("flows.db-wal")
    for _ in range(40):
        store.put(make_reports(1000), names)
        time.sleep(0.005)
    until(lambda: "reader" in store.status().state)
    assert wal.stat().st_size < 5 << 20
    assert reader.execute("SELECT count(*) FROM flows").fetchone() == (10,)
    reader.execute("COMMIT")
    reader.close()
    assert flushed(store, 20)
    status = store.status()
    store.close(5)
    assert (status.state, status.lost_rows, status.written_rows) == ("ok", 0, 40_010)
    assert ask("SELECT sum(flows) FROM rollups WHERE kind = 'total' AND period = 'day'") == [(40_010,)]


def test_readers_never_meet_a_lock(store: Store, names: Names, make_reports: Make, ask: Ask) -> None:
    for turn in range(50):
        store.put(make_reports(500), names)
        ((count,),) = ask("SELECT count(*) FROM flows")
        assert count <= (turn + 1) * 500
    assert flushed(store, 5)
    assert ask("SELECT count(*) FROM flows") == [(25_000,)]
