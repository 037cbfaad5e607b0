"""Debian's kernels from its packages, a root file system for them, and qemu to run the two without acceleration."""

from __future__ import annotations

import gzip
import json
import lzma
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from debian import ROOT, Failure, mirror, remove, root_tarball, unpacked
from machine import Machine

SYSTEM = (
    "python3",
    "python3-bpfcc",
    "python3-numpy",
    "python3-pyroute2",
    "python3-systemd",
    "python3-toml",
    "python3-watchdog",
    "sqlite-utils",
)
SYSTEM += ("libbpf1", "iproute2", "iputils-ping", "procps", "busybox-static", "ethtool", "bpftool", "xdp-tools")
# What a machine would load on demand is loaded at boot; those a kernel has built in or lacks are passed over.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4", "veth", "dummy", "sch_ingress", "cls_bpf", "act_bpf")
MODULES += ("8021q", "mpls_router", "pppoe", "vxlan", "geneve", "ip_gre", "ip6_gre", "ipip", "sit", "ip6_tunnel")
MODULES += ("tcp_diag", "udp_diag")
OBJECTS = ("", "-units", "-inside", "-inside-units", "-dns", "-process")
TREE = ("bpf", *(f"build/trafficmon{name}.bpf.o" for name in OBJECTS), "etc", "tests/kernels")
TREE += ("tests/lab", "trafficctl", "trafficmond")
SECONDS = {"libbpf": 1000, "bcc": 1800}  # for a boot and the payload, emulated on a busy machine

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules/order); do /bin/busybox insmod "/modules/$module"; done
/bin/busybox mkdir -p /root
while ! [ -b /dev/vdb ]; do /bin/busybox usleep 50000; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount -t devtmpfs dev /root/dev
exec /bin/busybox switch_root /root /bin/busybox sh -c '
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
    mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /tmp
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t bpf bpf /sys/fs/bpf; mkdir -p /dev/shm /tmp/trafficmon; mount -t tmpfs tmpfs /dev/shm
    ip link set lo up; answer=/dev/vport0p1
    [ -c $answer ] || { answer=/dev/ttyS1; stty -F $answer raw; }
    cd /tmp/trafficmon && tar -xf /dev/vdb && python3 tests/kernels/${payload:-payload.py} >$answer
    sync; busybox poweroff -f
'
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel's files, unpacked: its release, its bootable image and the folder that has lib/modules/RELEASE."""

    release: str
    image: Path
    folder: Path


def kernel(suite: str, machine: Machine, build: Path) -> Kernel:
    """The newest cloud kernel of `suite`, downloaded once. Raises Failure if the mirror has none and none is kept."""
    folder = build / suite
    if not (folder / "complete").exists():
        remove(folder)
        (folder / "apt" / "lists" / "partial").mkdir(parents=True)
        _download(suite, machine, folder)
        (folder / "complete").touch()
    return _unpacked_kernel(folder / "root")


def _unpacked_kernel(root: Path) -> Kernel:
    for image in root.glob("boot/vmlinuz-*"):  # up to Debian 13
        return Kernel(image.name.removeprefix("vmlinuz-"), image, root)
    for image in root.glob("usr/lib/modules/*/vmlinuz"):
        return Kernel(image.parent.name, image, root)
    raise Failure(
        f"no kernel in the packages unpacked to {root}; look at what the kernel package of that suite depends on"
    )


def _download(suite: str, machine: Machine, folder: Path) -> None:
    """An apt of its own for `suite`, beside the host's; the packages that make up its kernel, unpacked."""
    apt, packages = folder / "apt", folder / "packages"
    packages.mkdir()
    (apt / "sources.list").write_text(
        f"deb [arch={machine.architecture} signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        f"{mirror()} {suite} main\n"
    )
    (apt / "status").touch()
    options = {"Dir::Etc::sourcelist": f"{apt}/sources.list", "Dir::Etc::sourceparts": "/dev/null"}
    options |= {
        "Dir::Etc::preferencesparts": "/dev/null",
        "Dir::State": str(apt),
        "Dir::State::status": f"{apt}/status",
    }
    options |= {"Dir::Cache": str(apt), "APT::Sandbox::User": "root", "Acquire::Languages": "none"}
    options |= {"APT::Architecture": machine.architecture, "APT::Architectures": machine.architecture}
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    _call(["apt-get", *given, "-qq", "update"])
    names = {machine.kernel}
    for _ in range(2):  # sid's image package has its files in two others of the same release
        shown = _call(["apt-cache", *given, "show", "--no-all-versions", *names])
        depends = " ".join(re.findall(r"^Depends: (.*)$", shown, re.MULTILINE))
        names |= set(re.findall(r"\blinux-(?:image|binary|modules)-[0-9][^ ,]*", depends))
    names.discard(machine.kernel)
    _call(["apt-get", *given, "-qq", "download", *sorted(names)], packages)
    for package in packages.iterdir():
        _call(["dpkg-deb", "-x", str(package), str(folder / "root")])
    remove(packages)
    remove(apt)
    root = folder / "root"
    if (root / "usr" / "lib" / "modules").exists() and not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    _call(["depmod", "-b", str(root), _unpacked_kernel(root).release])


def root_image(suite: str, machine: Machine, build: Path) -> Path:
    """An ext4 image of a Debian with what the daemon runs on; its changes are thrown away after each boot."""
    tarball = root_tarball(suite, build, SYSTEM, architecture=machine.architecture)
    image = tarball.with_suffix(".ext4")
    if not image.exists():
        for old in build.glob(f"{suite}-*.ext4"):
            old.unlink()
        folder = unpacked(tarball, build / "root-image")
        for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(folder / waste, ignore_errors=True)
        partial = image.with_suffix(".partial")
        _call(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(folder), str(partial), "1500M"])
        remove(folder)
        partial.rename(image)
    return image


def initramfs(files: Kernel, tarball: Path, build: Path, first: str = INIT) -> Path:
    """A compressed cpio with busybox of `tarball`, the modules this kernel needs and `first` as its init script."""
    folder = build / "initramfs"
    remove(folder)
    for name in ("bin", "dev", "modules"):
        (folder / name).mkdir(parents=True)
    with (folder / "bin" / "busybox").open("wb") as busybox:
        subprocess.run(["tar", "-xOf", tarball, "./usr/bin/busybox"], stdout=busybox, check=True)
    (folder / "bin" / "busybox").chmod(0o755)
    order: list[str] = []
    for name in MODULES:
        shown = subprocess.run(
            ["modprobe", "-d", files.folder, "-S", files.release, "--show-depends", name],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        for path in re.findall(r"^insmod (\S+)", shown.stdout, re.MULTILINE):
            module = re.sub(r"\.ko.*", ".ko", Path(path).name)
            if module not in order:
                order.append(module)
                (folder / "modules" / module).write_bytes(_plain(Path(path)))
    (folder / "modules" / "order").write_text("\n".join(order) + "\n")
    init = folder / "init"
    init.write_text(first)
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(folder)) for path in sorted(folder.rglob("*")))
    done = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], input=names.encode(), cwd=folder, capture_output=True, check=True
    )
    archive = build / f"initramfs-{files.release}.gz"
    archive.write_bytes(gzip.compress(done.stdout, 1))
    remove(folder)
    return archive


def _plain(module: Path) -> bytes:
    if module.suffix == ".xz":
        return lzma.decompress(module.read_bytes())
    if module.suffix == ".zst":
        return subprocess.run(["zstd", "-dcq", module], capture_output=True, check=True).stdout
    return module.read_bytes()


def boot(
    machine: Machine,
    image: Path,
    initrd: Path,
    root: Path,
    words: str,
    seconds: float,
    log: Path,
    show: bool,
    disk: Path | None = None,
) -> dict[str, Any]:
    """Boots, runs the payload on a copy of the tree and returns what it wrote. Raises Failure if it wrote nothing
    within `seconds`. `words` are what the payload finds on the kernel's command line; `disk` is one that stays."""
    payload, answer = log.with_suffix(".tar"), log.with_suffix(".json")
    with payload.open("wb") as tar:
        name = f"--transform=s,^{machine.library}$,build/libtmparse.so,"
        subprocess.run(
            ["tar", "-c", "--exclude=__pycache__", name, *TREE, machine.library], cwd=ROOT, stdout=tar, check=True
        )
    answer.unlink(missing_ok=True)
    command = [*machine.qemu, "-accel", "tcg,thread=multi", "-smp", "2", "-m", "2048", "-nographic"]
    command += ["-no-reboot", "-nodefaults", "-kernel", str(image), "-initrd", str(initrd)]
    # A PC's kernel checks at boot whether the timer ticks, and panics if a busy host lets qemu tick too late.
    command += [
        "-append",
        f"console={machine.console} quiet panic=-1 mitigations=off cryptomgr.notests no_timer_check {words}",
    ]
    command += ["-serial", "stdio" if show else f"file:{log}", *(each.format(file=answer) for each in machine.answer)]
    command += ["-drive", f"file={root},format=raw,if=virtio,snapshot=on"]
    command += ["-drive", f"file={payload},format=raw,if=virtio,readonly=on"]
    command += ["-drive", f"file={disk},format=raw,if=virtio"] if disk else []
    try:
        subprocess.run(command, timeout=seconds, check=True, stdin=subprocess.DEVNULL)
        return dict(json.loads(answer.read_text()))
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        if not show and log.exists():
            sys.stderr.write("".join(log.read_text(errors="replace").splitlines(keepends=True)[-40:]))
        raise Failure(
            f"{image.name}: no result ({error}); its console is in {log}, or see it live with --show"
        ) from None
    finally:
        payload.unlink()


def _call(command: list[str], folder: Path | None = None) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout
