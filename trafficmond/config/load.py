"""Loads settings from a file (TOML, or the JSON of the original) and the command line."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from trafficmond import files
from trafficmond.config.declare import Report, declared, guess, read
from trafficmond.config.flags import Flags
from trafficmond.config.formats import BY_SUFFIX
from trafficmond.config.lines import key_lines, line_of
from trafficmond.config.settings import CONFIG_FILE, Settings
from trafficmond.config.streams import SHIPPED_LOG, Log
from trafficmond.dataclass import replace
from trafficmond.errors import ConfigError, Mistake

T = TypeVar("T")
# A message of tomllib: what, line, column; "(at end of document)" is a place too.
_SYNTAX = re.compile(r"(.*?)(?: \(at line (\d+), column (\d+)\))?", re.DOTALL)
_SECRET = re.compile(r"""(?<=://)[^\s"']*[^\s"':]""")  # what follows in a URL may have a password or a token
_STATE_DIR = re.compile(r"""^\s*state_dir\s*=\s*(["'])([^"'\n]+)\1""", re.MULTILINE)

_MOST_BYTES = 16 << 20


def load_settings(
    path: Path | None, flags: Flags | None = None, *, detectors: Mapping[str, type[Any]] | None = None
) -> Settings:
    """The settings of `path` (None: `flags.config`, else the usual file, else none), overridden by `flags`.

    `detectors` gives each detector's own declared Settings class by its name; their values are in `.detect`.
    Raises ConfigError with every mistake found, each with its file and line.
    """
    return SettingsFile(path, flags or Flags()).settings(detectors or {})


class SettingsFile:
    """A settings file, read once. Its own settings are available before the detectors are imported."""

    def __init__(self, path: Path | None, flags: Flags, text: str | None = None) -> None:
        """The parameters are those of load_settings; `text` replaces the content of the file."""
        path = path or flags.config or (CONFIG_FILE if files.is_there(CONFIG_FILE) else None)
        self.path = path and path.absolute()
        self._flags, self._text = flags, text or ""
        self._raw: Any = {}
        self._unread: ConfigError | None = None
        if self.path is None:
            return
        try:
            self._text = _read_text(self.path) if text is None else text
            loads = json.loads if self.path.suffix == ".json" else tomllib.loads
            self._raw = _decode(self.path, self._text, loads)
        except ConfigError as error:
            self._unread = error

    def state_dir(self) -> Path:
        """The daemon's folder, as far as a file with mistakes says."""
        said = self._raw.get("state_dir") if isinstance(self._raw, dict) else None
        if not said and (found := _STATE_DIR.search(self._text)):
            said = found[2]
        return self.path.parent / said if self.path and isinstance(said, str) else Settings().state_dir

    def own(self) -> Settings | None:
        """All settings except those of detectors; None if they have mistakes."""
        try:
            return self._settings(lambda _base, _report: {})
        except ConfigError:
            return None

    def settings(self, detectors: Mapping[str, type[Any]]) -> Settings:
        """All settings. Raises ConfigError with all mistakes."""
        return self._settings(lambda base, report: _parse_detect(self._raw, base, detectors, report))

    def _settings(self, detect: Callable[[Path, Report], dict[str, Any]]) -> Settings:
        if self._unread:
            raise self._unread
        if self.path is None:
            settings = read(Settings, {}, _ignore, base=Path("/"))
            return _with_flags(replace(settings, detect=detect(Path("/"), _ignore)), self._flags)
        if self.path.suffix == ".json":
            found = _Found(self.path, {})
            from trafficmond.config import original  # files of this kind are rare

            settings = original.parse(self._raw, found.report)
        else:
            found, base = _Found(self.path, key_lines(self._text)), self.path.parent
            own = {key: value for key, value in self._raw.items() if key != "detect"}
            settings = replace(read(Settings, own, found.report, base=base), detect=detect(base, found.report))
        found.refuse("correct the file; trafficctl check shows every mistake")
        return _with_flags(replace(settings, source=self.path), self._flags)


def holds_settings(path: Path) -> bool:
    """Whether a TOML file has settings rather than rules; False if it cannot be read."""
    try:
        found = tomllib.loads(files.read(path).decode("utf-8-sig")) if path.suffix == ".toml" else {}
    except (OSError, ValueError, RecursionError):
        return False
    return bool(found) and not are_rules(found)


def are_rules(document: Mapping[str, Any]) -> bool:
    """Whether a TOML document is a rules file, with its `[[rule]]` perhaps misspelt; else it is one of settings."""
    return "rule" in document or any(key not in declared(Settings) and guess(key, ("rule",)) for key in document)


def load_declared(cls: type[T], path: Path, text: str) -> T:
    """The settings of class `cls` in the TOML file `path` with content `text`. Raises ConfigError with all mistakes."""
    raw = _decode(path, text, tomllib.loads)
    found = _Found(path, key_lines(text))
    settings = read(cls, raw, found.report, base=path.absolute().parent)
    found.refuse("correct the file")
    return settings


def credential_of(file: Path) -> Path:
    """The copy of a file that systemd passes as a credential, since only root may read the file; else the file."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(credentials, file.name) if credentials else file


class _Found:
    """The mistakes of a file, each with the line of its key."""

    def __init__(self, path: Path, lines: dict[str, int]) -> None:
        self._path, self._lines = path, lines
        self._mistakes: list[tuple[int, Mistake]] = []

    def report(self, key: str, what: str) -> None:
        line = line_of(key, self._lines)
        where = f"{self._path}:{line}" if line else str(self._path)
        said, example, rest = f"{key}: {what}".partition(", for example")
        self._mistakes.append((line or 0, Mistake(where, _SECRET.sub("...", said) + example + rest)))

    def refuse(self, hint: str) -> None:
        """Raises ConfigError if there are mistakes."""
        if self._mistakes:
            raise ConfigError([mistake for _, mistake in sorted(self._mistakes, key=lambda each: each[0])], hint=hint)


def _ignore(key: str, what: str) -> None:
    """Reports nothing: settings without a file have no mistakes."""


def _read_text(path: Path) -> str:
    hint = "give the right file (trafficmond: -c), or check its permissions"
    try:
        return files.read(path, _MOST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        what = "there is no such file; create it, even empty, to use the defaults"
        raise ConfigError([Mistake(str(path), what)], hint=hint) from None
    except OSError as error:
        raise ConfigError([Mistake(str(path), f"cannot be read: {error.strerror}")], hint=hint) from None
    except UnicodeDecodeError as error:
        what = f"byte {error.start} is not UTF-8; save the file as UTF-8"
        raise ConfigError([Mistake(str(path), what)]) from None


def not_toml(path: Path | str, text: str, error: ValueError) -> Mistake:
    """What is wrong with a file whose content is `text`; of a file that ends too early, in its last line."""
    if not isinstance(error, tomllib.TOMLDecodeError):  # beyond sys.get_int_max_str_digits()
        return Mistake(str(path), "has a number of thousands of digits")
    what, line, column = _SYNTAX.fullmatch(str(error)).groups()  # type: ignore[union-attr]
    lines = [each.partition("#")[0].split("=")[0].strip() for each in text.splitlines()]  # their keys and headers
    at = int(line or len(lines))
    if what.startswith(("Cannot declare", "Cannot overwrite")) and (key := lines[at - 1]) not in ("]", "}"):
        before = next((f", in line {n}" for n in range(at - 1, 0, -1) if lines[n - 1] == key), "")
        return Mistake(f"{path}:{at}", f"{key} is set already{before}; write it once")
    what += f" (column {column})" if column else ""
    unquoted = "; a text is in quotes, and a switch is true or false" if what.startswith("Invalid value") else ""
    return Mistake(f"{path}:{at}", f"is not TOML: {what}{unquoted}")


def _decode(path: Path, text: str, loads: Callable[[str], Any]) -> Any:
    try:
        return loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError([Mistake(f"{path}:{error.lineno}", f"is not JSON: {error.msg}")]) from None
    except ValueError as error:
        raise ConfigError([not_toml(path, text, error)]) from None
    except RecursionError:
        raise ConfigError([Mistake(str(path), "is nested too deeply")]) from None


def _parse_detect(raw: Any, base: Path, detectors: Mapping[str, type[Any]], report: Report) -> dict[str, Any]:
    given = raw.get("detect", {})
    if not isinstance(given, Mapping):
        report("detect", "must contain one table for each detector; write [detect.NAME]")
        given = {}
    for name in given:
        if name not in detectors:
            report(f"detect.{name}", f"there is no such detector{guess(name, list(detectors))}")
    found: dict[str, Any] = {}
    for name, cls in detectors.items():
        own = given.get(name, {})
        if not isinstance(own, Mapping):
            report(f"detect.{name}", f"must be a table; write [detect.{name}]")
            own = {}
        found[name] = read(cls, own, report, prefix=f"detect.{name}", base=base)
    return found


def _with_flags(settings: Settings, flags: Flags) -> Settings:
    given = ((name, getattr(flags, name)) for name in ("verbose", "interfaces", "xdp_mode", "on_stop"))
    changes: dict[str, Any] = {name: value for name, value in given if value}
    if flags.drop_packets:
        changes["policy"] = replace(settings.policy, default="drop")
    changes["logs"] = tuple(_logs_with_flags(settings.logs, flags))
    settings = replace(settings, **changes)
    if wrong := [Mistake("the command line", f"{key}: {what}") for key, what in settings.mistakes()]:
        raise ConfigError(wrong, hint="change the flags, or the file that they override")
    return settings


def _logs_with_flags(logs: tuple[Log, ...], flags: Flags) -> Iterator[Log]:
    """The logs after the flags: --log-format and --log-file replace all by one; the buffer size is for each."""
    if flags.log_format or flags.log_file:
        base = logs[0] if len(logs) == 1 and logs[0] != SHIPPED_LOG else Log()
        suffix = flags.log_file.suffix if flags.log_file else ""
        known = base.format if base.format != "journal" else "jsonl"
        chosen = flags.log_format or BY_SUFFIX.get(suffix, known)
        path = None if chosen == "journal" else flags.log_file or base.path
        logs = (replace(base, format=chosen, path=path),)
    for log in logs:
        yield replace(log, buffer_size=flags.log_buffer_size) if flags.log_buffer_size else log
