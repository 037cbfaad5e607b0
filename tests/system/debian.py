"""Fresh Debians: root file systems from the mirror this host uses, and machines booted from them with systemd."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

ROOT = Path(__file__).resolve().parents[2]
CGROUPS = [Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/systemd")]
CLEAN = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
CLEAN |= {"TERM": "dumb", "DEBIAN_FRONTEND": "noninteractive"}
PATIENCE = int(os.environ.get("TRAFFICMON_PATIENCE", "1"))  # how many times as long each thing may take


class Failure(Exception):
    """A step did not do what it must; the text says what was expected and what came."""


def mirror() -> str:
    """The address this host's apt fetches Debian's main archive from. Raises Failure if it has none."""
    form = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]
    for attempt in range(2):
        found = subprocess.run([*form, "Origin: Debian", "Label: Debian"], capture_output=True, text=True, check=True)
        if found.stdout:
            return found.stdout.split()[0]
        if not attempt:
            subprocess.run(["apt-get", "update", "-qq"], check=True)
    raise Failure(
        "apt has no source with Debian's main archive; add one to /etc/apt/sources.list and run apt-get update"
    )


def root_tarball(
    suite: str, folder: Path, include: Sequence[str], fetch: Sequence[str] = (), architecture: str = "amd64"
) -> Path:
    """A root file system of `suite` with the packages `include` and those of `fetch` in apt's cache, made once.

    The tarball's name carries a hash of what is in it. Without network, one made before serves.
    """
    recipe = "\n".join([suite, *sorted(include), "", *sorted(fetch)])
    tarball = folder / f"{suite}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.tar"
    if tarball.exists():
        return tarball
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob(f"{suite}-*.tar"):
        old.unlink()
    hook = 'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get install -qq --no-install-recommends --download-only '
    command = ["mmdebstrap", "--quiet", "--variant=minbase", "--include", ",".join(include)]
    command += ["--architectures", architecture]
    command += ["--skip=cleanup/apt"]  # its lists and archives are what makes an offline `apt-get install` work
    if fetch:
        command += ["--customize-hook", hook + shlex.join(fetch)]
    partial = tarball.with_suffix(".partial.tar")
    subprocess.run([*command, suite, str(partial), f"deb {mirror()} {suite} main"], check=True)
    return partial.rename(tarball)


class Machine:
    """A Debian booted from a folder by systemd-nspawn: its own network, bpffs and journal, all capabilities."""

    up: ClassVar[set[Machine]] = set()

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.leader = 0  # its init, as this host numbers it; 0: not booted
        self._nspawn: subprocess.Popen[bytes] | None = None

    @property
    def entrance(self) -> list[str]:
        """The command that runs another one inside."""
        return ["nsenter", "-t", str(self.leader), "-a"]

    @contextlib.contextmanager
    def booted(self, binds: Sequence[str] = ()) -> Iterator[Machine]:
        """Boots; powers off at the end, whatever happened."""
        bpffs = Path(tempfile.mkdtemp(prefix=f"{self.name}-bpf-", dir="/run"))
        # nspawn needs a /run/systemd to write to, a container of a host with hybrid cgroups the unified ones.
        # systemd in a container mounts no bpffs of its own, and the host's would be shared; 0700 as systemd's is.
        script = """
            mount --make-rprivate /
            mkdir -p /run/systemd && mount -t tmpfs tmpfs /run/systemd
            mount -t bpf -o mode=0700 bpf "$1"
            for tree in "${@:3:$2}"; do
                mkdir -p "$tree" && echo $$ >"$tree/cgroup.procs"
            done
            bpffs=$1; shift $((2 + $2))
            exec systemd-nspawn --quiet --bind="$bpffs:/sys/fs/bpf" "$@" </dev/null
        """
        options = [f"--directory={self.folder}", f"--machine={self.name}", "--boot", "--private-network"]
        options += ["--register=no", "--keep-unit", "--console=passive", "--capability=all"]
        options += ["--system-call-filter=bpf perf_event_open", *(f"--bind-ro={bind}" for bind in binds)]
        # Cgroups of its own: two that are up at a time would have the same unit's processes and IPAddressAllow= in one.
        trees = [tree / self.name for tree in CGROUPS if (tree / "cgroup.procs").exists()]
        command = ["unshare", "--mount", "bash", "-euc", script, "bash", str(bpffs), str(len(trees)), *map(str, trees)]
        command += options
        environment = {**os.environ, "UNIFIED_CGROUP_HIERARCHY": "1"}
        with self.folder.with_suffix(".console").open("wb") as console:
            nspawn = subprocess.Popen(command, env=environment, start_new_session=True, stdout=console, stderr=console)
        self._nspawn = nspawn
        self.up.add(self)
        try:
            self.leader = self._wait_for_leader(nspawn)
            self._wait_for_boot()
            yield self
        finally:
            self.power_off()
            bpffs.rmdir()
            for tree in trees:
                for group in sorted((path for path in [tree, *tree.rglob("*")] if path.is_dir()), reverse=True):
                    with contextlib.suppress(OSError):  # something in it has not ended yet
                        group.rmdir()

    def power_off(self) -> None:
        """Ends it in order, or else by force after 15 s; nothing if it is not up."""
        self.leader = 0
        self.up.discard(self)
        if self._nspawn:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(15)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
            self._nspawn = None

    def _wait_for_leader(self, nspawn: subprocess.Popen[bytes]) -> int:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children")
        for _ in range(200):
            if nspawn.poll() is not None:
                raise Failure(
                    f"systemd-nspawn ended with {nspawn.returncode}; see {self.folder.with_suffix('.console')}"
                )
            for child in children.read_text().split():
                with contextlib.suppress(OSError):
                    if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                        return int(child)
            time.sleep(0.05)
        raise Failure(f"{self.name}: systemd did not start within 10 s")

    def _wait_for_boot(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            state = self.run("systemctl is-system-running --wait", check=False).stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise Failure(f"{self.name}: not up after 60 s; systemctl is-system-running says {state!r}")

    def popen(self, command: str, user: str = "root") -> subprocess.Popen[str]:
        """Starts a shell command inside, as `user`."""
        inner = ["bash", "-c", command] if user == "root" else ["runuser", "-u", user, "--", "bash", "-c", command]
        return subprocess.Popen(
            [*self.entrance, *inner],
            env=CLEAN,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(
        self, command: str, user: str = "root", check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs a shell command inside, as `user`, and returns what it wrote. Raises Failure if it fails and `check`."""
        process = self.popen(command, user)
        try:
            out, err = process.communicate(timeout=timeout * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Failure(f"`{command}` had not ended after {timeout * PATIENCE:.0f} s") from None
        if check and process.returncode:
            raise Failure(f"`{command}` ended with {process.returncode}:\n{out}{err}")
        return subprocess.CompletedProcess(command, process.returncode, out, err)


def unpacked(tarball: Path, folder: Path) -> Path:
    """`folder`, fresh from `tarball`."""
    remove(folder)
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-C", folder, "--numeric-owner", "-xpf", tarball], check=True)
    return folder


def remove(folder: Path) -> None:
    """Removes a machine's folder if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
