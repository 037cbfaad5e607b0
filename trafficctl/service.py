"""Finds logs that the service may not write: its unit permits a few folders only."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.errors import Advice

_UNITS = tuple(Path(at) / "trafficmond.service" for at in ("/etc/systemd/system", "/usr/lib/systemd/system"))
_DROP_INS = (Path("/etc/systemd/system/trafficmond.service.d"), Path("/run/systemd/system/trafficmond.service.d"))
_OWN = (Path("/var/log/trafficmon"), Path("/var/lib/trafficmon"), Path("/run/trafficmon"), Path("/dev"))


def unwritable_logs(settings: Settings) -> Iterator[Advice]:
    """A note for each [[log]] that the service may not write; none if the service is not installed."""
    if settings.source != CONFIG_FILE or not any(unit.exists() for unit in _UNITS):
        return
    writable = [*_OWN, *_given(_DROP_INS)]
    for index, log in enumerate(settings.logs):
        if log.path is not None and not any(log.path.is_relative_to(folder) for folder in writable):
            what = (
                f"log[{index}].path: the service may not write to {log.path.parent}; use /var/log/trafficmon, or allow "
                f"it: systemctl edit trafficmond, and there [Service] and ReadWritePaths={log.path.parent}"
            )
            yield Advice(str(settings.source), what)


def _given(folders: Sequence[Path]) -> Iterator[Path]:
    for folder in folders:
        for path in sorted(folder.glob("*.conf")):
            try:
                lines = path.read_text("utf-8", errors="replace").splitlines()
            except OSError:
                continue
            for line in lines:
                key, _, value = line.partition("=")
                if key.strip() == "ReadWritePaths":
                    yield from (Path(word.lstrip("-+")) for word in value.split())
