"""The examinations of `trafficctl doctor`: one module each, with a function that yields findings about this host."""

from collections.abc import Callable, Iterator

from trafficctl.doctor import daemon, interfaces, kernel, permissions, programs, settings, storage, wheel
from trafficctl.doctor.examination import Finding, Host

EXAMINATIONS: tuple[Callable[[Host], Iterator[Finding]], ...] = tuple(
    each.examine for each in (settings, kernel, permissions, wheel, programs, interfaces, storage, daemon)
)
