"""The settings of notifications, `notify.toml`. Its URLs are secrets: messages name only their scheme."""

import re
from collections.abc import Iterator
from pathlib import Path

from trafficmond import files
from trafficmond.config.declare import duration, setting, tables
from trafficmond.config.load import load_declared
from trafficmond.dataclass import dataclass
from trafficmond.errors import ConfigError, Mistake
from trafficmond.model import SEVERITIES

NOTIFY_FILE = Path("/etc/trafficmon/notify.toml")
STATE_DIR = Path("/var/lib/trafficmon-notify")
MOST_TARGETS = 16  # each has a thread

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://.", re.ASCII | re.IGNORECASE)


def service_url(text: str) -> str:
    """`text` if it looks like a URL. The ValueError otherwise does not repeat it: it may hold a password."""
    if text and not _SCHEME.match(text):
        raise ValueError('is not a valid URL, for example "ntfy://ntfy.example/topic" or "mailto://user:password@host"')
    return text


@dataclass(frozen=True)
class Target:
    """[[target]]: one receiver of messages."""

    url: str = setting(
        "",
        check=service_url,
        example='"ntfy://ntfy.example/my-topic"',
        help="A service as Apprise writes it: mailto://, ntfy://, slack://, tgram://, json:// and many more.",
    )
    command: tuple[str, ...] = setting(
        (),
        example='["/usr/local/bin/on-threat", "--urgent"]',
        help="Instead of url: a program and its arguments. It gets the message as JSON on standard input; status 0 "
        "means that it was delivered.",
    )
    name: str = setting("", help="Its name in `trafficctl notify` and the journal; if empty: its number and kind.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.url and not self.command:
            yield "url", "is missing; write url for a service, or command for a program"
        if self.url and self.command:
            yield "command", "and url are both set; remove one of them"
        if self.command and not Path(self.command[0]).is_absolute():
            yield (
                "command",
                "begins with a program without its path; write the absolute path, for example /usr/local/bin/on-threat",
            )

    def kind(self) -> str:
        """The scheme of the URL, which may be shown, or "command"."""
        found = _SCHEME.match(self.url)
        return found[1].lower() if found else "command"


@dataclass(frozen=True)
class Settings:
    min_severity: str = setting("high", choices=SEVERITIES, help="Send threats of this severity and above.")
    group_wait: float = duration(
        "10s",
        min="1s",
        max="1h",
        help="A new threat is sent at once. News of an open threat is sent after this long, with all that has "
        "happened until then, in one message.",
    )
    max_per_hour: int = setting(
        20, min=1, max=3600, help="At most this many messages to a target in an hour. The others become one summary."
    )
    control_socket: Path = setting(
        Path("/run/trafficmon/io.trafficmon"), help="The daemon's socket: control_socket of its settings."
    )
    targets: tuple[Target, ...] = tables(Target, "target", help="Where messages are sent.")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if not self.targets:
            yield "target", "is missing; write a line [[target]], and below it a line url = or command ="
        if len(self.targets) > MOST_TARGETS:
            yield "target", f"there are {len(self.targets)} targets; the maximum is {MOST_TARGETS}"
        names = [name for name, _ in self.named()]
        for index, name in enumerate(names):
            if name in names[:index]:
                yield f"target[{index}].name", f"another target is called {name}, too; give each its own"

    def named(self) -> list[tuple[str, Target]]:
        """The targets, each with its name in messages and in the outbox."""
        return [(each.name or f"{number}-{each.kind()}", each) for number, each in enumerate(self.targets, 1)]


def load(path: Path = NOTIFY_FILE) -> Settings:
    """Loads the settings in `path`. Raises ConfigError with every mistake, OSError if it cannot be read."""
    try:
        text = files.read(path).decode("utf-8-sig")
    except FileNotFoundError:
        hint = f"begin with the sample: install -m 600 /usr/share/doc/trafficmon/examples/notify.toml {path}"
        raise ConfigError([Mistake(str(path), "there is no such file")], hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError([Mistake(str(path), "is not UTF-8 text")]) from None
    return load_declared(Settings, path, text)
