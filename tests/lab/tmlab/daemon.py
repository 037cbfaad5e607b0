"""trafficmond as a process of its own in the lab's host namespace, with files, socket and pins of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from trafficmond.control.client import Client
from trafficmond.errors import ControlError

from .namespaces import Lab

ROOT = Path(__file__).resolve().parents[3]
# The one that Debian's packages are for, or another to try.
PYTHON = os.environ.get("TRAFFICMON_PYTHON", "/usr/bin/python3")
BPFFS = Path("/sys/fs/bpf")

_T = TypeVar("_T")

_SETTINGS = """\
interfaces = [{interfaces}]
control_socket = "{home}/control"
state_dir = "{home}/state"
cidr_dir = "{home}/cidr.d"
pin_dir = "{pins}"
{settings}
"""


class DaemonFailed(AssertionError):
    """The daemon or its client did not do what was asked; carries what they said."""


class Daemon:
    """One trafficmond. It is started when entered and stopped, with its pins and files removed, when left.

    `settings`: TOML after the lab's own top-level keys, `{home}` in it being the daemon's folder; top-level keys first,
    then tables.
    `rules`: files of cidr.d by name. `arguments`: instead of `-c FILE`. `interfaces`: patterns; the lab's first link.
    `prefix`: what runs it. `keep`: leave it running on the way out. `tree`: the source that it runs from, built.
    """

    def __init__(
        self,
        lab: Lab,
        settings: str = "",
        *,
        rules: Mapping[str, str] | None = None,
        arguments: Sequence[str] | None = None,
        interfaces: Sequence[str] | None = None,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        keep: bool = False,
        tree: Path = ROOT,
    ) -> None:
        self.lab = lab
        self.patience_s = 30.0  # with an answer on its socket
        self.home = Path(tempfile.mkdtemp(prefix=f"{lab.name}-"))
        self.home.chmod(0o755)
        self.pins = BPFFS / self.home.name
        self.socket = self.home / "control"
        self.database = self.home / "state" / "flows.db"
        self.config = self.home / "trafficmond.toml"
        self.log = self.home / "log"
        self.cidr_dir = self.home / "cidr.d"
        self.cidr_dir.mkdir()
        self.process: subprocess.Popen[bytes] | None = None
        self._interfaces = list(interfaces if interfaces is not None else [lab.links[0].host])
        self._arguments = list(arguments) if arguments is not None else ["-c", str(self.config)]
        self._prefix = list(prefix)
        self._environment = dict(environment or {})
        self._keep = keep
        self._tree = tree
        self.configure(settings)
        for name, text in (rules or {}).items():
            self.write_rules(name, text)

    def __enter__(self) -> Daemon:
        mount_bpffs()
        try:
            self.start()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._keep:
            self.remove()

    # ---- life cycle ----

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the process and do not wait for it to be ready."""
        assert self.process is None or self.process.poll() is not None, "the daemon of before still runs"
        command = [*self._prefix, PYTHON, "-m", "trafficmond", *self._arguments]
        inherited = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        environment = inherited | {"PYTHONPATH": str(self._tree)} | self._environment
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.lab.host.argv(*command),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.home,
                env=environment,
                start_new_session=True,
            )
        return self.process

    def start(self, timeout: float = 20) -> None:
        """Start the process and wait until it answers. Raises DaemonFailed with its log if it does not."""
        self.launch()
        self.wait(self.answers, "an answer on its socket", timeout)

    def answers(self) -> bool:
        """Whether a status comes back."""
        if self.process is None or self.process.poll() is not None:
            raise DaemonFailed(f"trafficmond ended with {self.process and self.process.returncode}:\n{self.said()}")
        try:
            return bool(self.status())
        except ControlError:
            return False

    def stop(self, timeout: float = 20) -> int:
        """Ask it to end (SIGTERM); its exit code."""
        return self._end(signal.SIGTERM, timeout)

    def kill(self) -> int:
        """End it without a chance to tidy up (SIGKILL); its exit code."""
        return self._end(signal.SIGKILL, 20)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the daemon itself (nsenter has replaced itself with it)."""
        assert self.process is not None
        self.process.send_signal(number)

    def _end(self, number: signal.Signals, timeout: float) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise DaemonFailed(f"trafficmond ignored {number.name} for {timeout:g} s:\n{self.said()}") from None

    def remove(self) -> None:
        """End it, unpin what it left pinned, remove its files."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(DaemonFailed):
                self.stop()
        remove_pins(self.pins)
        shutil.rmtree(self.home, ignore_errors=True)

    def said(self) -> str:
        """Everything on its standard output and error so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    # ---- files ----

    def configure(self, settings: str) -> None:
        """Write the settings file again."""
        quoted = ", ".join(f'"{name}"' for name in self._interfaces)
        settings = settings.replace("{home}", str(self.home))
        self.config.write_text(_SETTINGS.format(interfaces=quoted, home=self.home, pins=self.pins, settings=settings))

    def write_rules(self, name: str, text: str) -> Path:
        """Write a file of cidr.d as editors do: a new file renamed over the old one."""
        path = self.cidr_dir / name
        fresh = self.cidr_dir / f".{name}.swp"
        fresh.write_text(text)
        return fresh.rename(path)

    # ---- questions ----

    def control(
        self, *arguments: str, check: bool = True, timeout: float = 30, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run trafficctl against this daemon. Raises DaemonFailed if it fails and `check` is set."""
        done = subprocess.run(
            [PYTHON, "-m", "trafficctl", "-s", str(self.socket), *arguments],
            capture_output=True, text=True, timeout=timeout, check=False, input=input,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        if check and done.returncode:
            raise DaemonFailed(
                f"trafficctl {' '.join(arguments)}: exit {done.returncode}\n{done.stdout}{done.stderr}\n{self.said()}"
            )
        return done

    def ask(self, *arguments: str, timeout: float = 30) -> Any:
        """The JSON that trafficctl prints."""
        return json.loads(self.control("-o", "json", *arguments, timeout=timeout).stdout)

    def client(self) -> Client:
        """A connection to the control socket."""
        return Client(str(self.socket), self.patience_s)

    def status(self) -> dict[str, Any]:
        """The reply of `Status`, without the cost of a process."""
        with self.client() as client:
            return client.call("Status")

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of flows.db, read as any other program would."""
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=10)) as database:
            return database.execute(query).fetchall()

    def wait(self, condition: Callable[[], _T], what: str, timeout: float = 10, every: float = 0.05) -> _T:
        """The first true value of `condition`. Raises DaemonFailed saying `what` was waited for."""
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            if time.monotonic() > deadline:
                raise DaemonFailed(f"waited {timeout:g} s for {what}; last seen: {value!r}\n{self.said()}")
            time.sleep(every)
        return value

    def wait_status(self, condition: Callable[[dict[str, Any]], Any], what: str, timeout: float = 10) -> dict[str, Any]:
        """The first status that meets `condition`."""
        last: dict[str, Any] = {}

        def met() -> bool:
            nonlocal last
            last = self.status()
            return bool(condition(last))

        try:
            self.wait(met, what, timeout)
        except DaemonFailed as failure:
            raise DaemonFailed(f"{failure}\nlast status: {json.dumps(last, indent=1)}") from None
        return last


def mount_bpffs() -> None:
    """Mount bpffs where it belongs, as systemd does, on a machine where nobody has."""
    if not BPFFS.is_mount():
        subprocess.run(["mount", "-t", "bpf", "bpf", str(BPFFS)], check=True)


def remove_pins(folder: Path) -> None:
    """Remove a folder of pins; bpffs knows no more than unlink and rmdir."""
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        if entry.is_dir():
            remove_pins(entry)
        else:
            entry.unlink()
    folder.rmdir()
