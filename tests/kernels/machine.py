"""What qemu emulates, by Debian's name of its architecture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """`answer`: qemu's options for the device that carries what the payload wrote into `{file}`."""

    architecture: str
    qemu: tuple[str, ...]
    package: str  # that has this qemu
    console: str  # the kernel's name of its first serial line
    answer: tuple[str, ...]
    library: str  # libtmparse.so for it, below the checkout
    slowness: int = 1  # how many times as long a boot with its checks may take

    @property
    def kernel(self) -> str:
        """The package that depends on the newest kernel of a suite."""
        return f"linux-image-cloud-{self.architecture}"


# Without what qemu 7.2 emulates wrongly, or kernel and programs crash: flags after cmpxchg16b, and AVX. And without
# page tables of five levels, which cost time.
_AMD64_CPU = "max,cx16=off,avx=off,avx2=off,f16c=off,fma=off,la57=off"
MACHINES = {
    each.architecture: each
    for each in (
        Machine(
            "amd64",
            ("qemu-system-x86_64", "-cpu", _AMD64_CPU),
            "qemu-system-x86",
            "ttyS0",
            ("-serial", "file:{file}"),
            "build/libtmparse.so",
        ),
        # Its one serial line is the console; the second comes as a device of virtio.
        Machine(
            "arm64",
            ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a72"),
            "qemu-system-arm",
            "ttyAMA0",
            (
                "-device",
                "virtio-serial-pci",
                "-chardev",
                "file,id=a,path={file}",
                "-device",
                "virtserialport,chardev=a",
            ),
            "build/arm64/libtmparse.so",
            slowness=3,
        ),
    )
}
