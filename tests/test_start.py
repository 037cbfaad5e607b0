"""The load begins before most of the daemon is imported: the first packet is judged so much sooner."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trafficmond import start
from trafficmond.config import load
from trafficmond.config.flags import Flags
from trafficmond.config.load import SettingsFile
from trafficmond.config.settings import Settings
from trafficmond.policy.lastgood import LAST_GOOD_NAME, KeptSet, LastGood
from trafficmond.status import _not_kept

ROOT = Path(__file__).resolve().parents[1]
LATE = (
    "asyncio",
    "numpy",
    "sqlite3",
    "trafficmond.detect.registry",
    "trafficmond.parts",
    "trafficmond.policy",
    "trafficmond.store",
)


def imported(code: str) -> set[str]:
    command = [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"]
    return set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())


def test_the_load_waits_for_little() -> None:
    found = imported("import trafficmond.__main__, trafficmond.start")
    assert "trafficmond.datapath.loading" in found
    assert not found & set(LATE)


RUN = """
sys.modules["ssl"] = None
import asyncio, gc, io
del sys.modules["ssl"]
from contextlib import nullcontext
from trafficmond import __main__
from trafficmond import start
assert gc.isenabled()
asyncio.run = lambda coroutine: coroutine.close()
start.begun, start.open_socket = nullcontext, lambda path: io.BytesIO()
assert __main__.main([]) == 0 and gc.isenabled()
print(*(each for each in sys.modules if sys.modules[each] is None))
import hashlib
assert hashlib.sha256(b"").hexdigest()[:4] == "e3b0" and hashlib.blake2b(b"").hexdigest()
"""


def test_packets_do_not_wait_for_openssl() -> None:
    found = imported(RUN)
    assert {"hashlib", "trafficmond.run"} <= found
    assert not found & {"ssl", "_ssl", "_hashlib"}


def test_packets_do_not_wait_for_what_serves_clients() -> None:
    found = imported("from trafficmond.later import numpy_alone\nwith numpy_alone():\n    import trafficmond.run")
    assert "trafficmond.parts" in found
    assert not found & {
        "gzip",
        "http",
        "random",
        "secrets",
        "tempfile",
        "trafficmond.daemon",
        "trafficmond.datapath.bcc.loader",
        "trafficmond.handlers",
        "trafficmond.control.server",
        "watchdog",
        "systemd",
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('state_dir = "/srv/tm"', True),
        ("state_dir = '/srv/tm'", True),
        ('  "state_dir"="/srv/tm" # here', True),
        ("state_dir = '/srv/tm'\n[policy\n", True),
        ('\tstate_dir="/srv/tm"\n[policy\n', True),
        ("\0" * 60, False),
        ("", False),
    ],
    ids=["a line", "single quotes", "a quoted name", "a header without its end", "a tab", "NULs", "nothing"],
)
def test_where_the_last_settings_are_is_known_from_a_file_with_mistakes(tmp_path: Path, text: str, found: bool) -> None:
    """Otherwise they are not found, and `status` says so."""
    path, folder = tmp_path / "trafficmond.toml", Path("/srv/tm")
    path.write_text(text + "\nunknown = 1\n")
    assert SettingsFile(path, Flags()).state_dir() == (folder if found else Settings().state_dir)
    told = _not_kept(Settings(source=path, state_dir=folder))
    assert (told is None) is found
    path.unlink()
    assert _not_kept(Settings(source=path)) is None
    assert f"no longer sets state_dir to {folder}" in str(_not_kept(Settings(source=path, state_dir=folder)))


@pytest.mark.parametrize("now", ["nothing", "a link to nowhere", "a pipe"])
def test_the_usual_settings_file_that_was_in_force_and_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: str
) -> None:
    """The defaults would let in what the last settings dropped, and say that all is well."""
    usual, kept = tmp_path / "trafficmond.toml", LastGood(tmp_path / LAST_GOOD_NAME)
    monkeypatch.setattr(load, "CONFIG_FILE", usual)
    monkeypatch.setattr(start, "CONFIG_FILE", usual)
    monkeypatch.setattr(SettingsFile, "state_dir", lambda _: tmp_path)
    assert start.valid(start.settings_file(Flags()), Flags())[0].policy.default == "monitor", "there never was one"
    copy = kept.add(b'[policy]\ndefault = "drop"\n')
    kept.commit(KeptSet({"policy": {}}, {str(usual): copy}))
    if now == "a pipe":
        os.mkfifo(usual)
    elif now != "nothing":
        usual.symlink_to(tmp_path / "nowhere")
    settings, wrong = start.valid(start.settings_file(Flags()), Flags())
    assert settings.policy.default == "drop"
    assert wrong
    told = (
        "cannot be read: it is not a regular file" if now == "a pipe" else "create it, even empty, to use the defaults"
    )
    assert told in str(wrong)
    usual.unlink(missing_ok=True)
    usual.touch()
    settings, wrong = start.valid(start.settings_file(Flags()), Flags())
    assert (settings.policy.default, wrong) == ("monitor", None)
