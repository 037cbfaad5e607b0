from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from trafficmond.config import load
from trafficmond.config.declare import setting
from trafficmond.config.flags import Flags
from trafficmond.config.load import SettingsFile, load_settings
from trafficmond.config.settings import Settings
from trafficmond.config.streams import Log
from trafficmond.errors import ConfigError

ORIGINAL = Path(__file__).parents[3] / "shared/data/original"
needs_original = pytest.mark.skipif(not ORIGINAL.is_dir(), reason=f"the original's example files are not at {ORIGINAL}")


def write(folder: Path, text: str, name: str = "trafficmond.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def mistakes_of(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return [str(mistake).removeprefix(str(path)) for mistake in caught.value.mistakes]


@dataclass(frozen=True)
class Scan:
    ports: int = setting(20, help="Ports.", min=2)


def test_the_example_of_the_design(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        interfaces = ["eth0"]
        xdp_mode = "auto"
        loader = "auto"
        egress = true
        control_socket = "/run/trafficmon/io.trafficmon"
        state_dir = "/var/lib/trafficmon"
        cidr_dir = "cidr.d"
        on_stop = "detach"

        [policy]
        default = "monitor"
        established = true
        allowlist = ["192.0.2.10/32"]

        [[list]]
        path = "cidr.d/firehol_level1.netset"
        action = "drop"

        [flows]
        interval = "1s"
        idle_timeout = "30s"
        active_timeout = "5m"
        capacity = 65536

        [store]
        max_age = "30d"
        max_size = "2GiB"

        [[log]]
        format = "jsonl"
        path = "/var/log/trafficmon/traffic.jsonl"
        buffer_size = 8192
        rotate_size = "100MiB"
        max_files = 10

        [detect.port_scan]
        ports = 30

        [response]
        ban = false
        ban_time = "10m"
        """,
    )
    settings = load_settings(path, detectors={"port_scan": Scan, "other": Scan})
    assert settings.cidr_dir == tmp_path / "cidr.d"
    assert settings.lists[0].path == tmp_path / "cidr.d/firehol_level1.netset"
    assert settings.policy.allowlist == ("192.0.2.10/32",)
    assert settings.logs == (Log(format="jsonl", path=Path("/var/log/trafficmon/traffic.jsonl")),)
    assert settings.detect == {"port_scan": Scan(30), "other": Scan(20)}
    assert settings.response.ban == "off"
    assert settings.source == path


def test_a_files_own_settings_are_had_before_any_detector_is_known(tmp_path: Path) -> None:
    path = write(tmp_path, "egress = false\n[detect.port_scan]\nports = 1\n")
    own = SettingsFile(path, Flags(on_stop="keep")).own()
    assert own is not None
    assert (own.egress, own.on_stop, own.detect, own.source) == (False, "keep", {}, path)
    with pytest.raises(ConfigError, match=r"detect\.port_scan\.ports"):
        SettingsFile(path, Flags()).settings({"port_scan": Scan})
    assert SettingsFile(write(tmp_path, "egress = 7\n"), Flags()).own() is None
    assert SettingsFile(write(tmp_path, "egress = true\n"), Flags(xdp_mode="auto")).own() == load_settings(path)


def test_without_a_file_the_defaults_watch_the_default_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "CONFIG_FILE", tmp_path / "none.toml")
    assert load_settings(None) == Settings()
    assert Settings().interfaces == ("default-route",)
    assert Settings().policy.default == "monitor"


def test_the_usual_file_is_read_where_it_exists(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "CONFIG_FILE", write(tmp_path, 'on_stop = "keep"'))
    assert load_settings(None).on_stop == "keep"


def test_every_mistake_comes_with_its_line(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'interfaces = ["eth0", "a b"]\nxdp_mdoe = "auto"\n\n[flows]\n# a comment\ncapacity = 65000\n'
        '[[log]]\nformat = "csv"\n[[log]]\n  format = "xml"\n[detect.nothing]\n',
    )
    found = mistakes_of(path)
    assert [text.partition(" ")[0] for text in found] == [":1:", ":2:", ":6:", ":10:", ":11:"]
    assert "did you mean xdp_mode?" in found[1]
    assert "use 32768 or 65536" in found[2]
    assert "detect.nothing: there is no such detector" in found[4]


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a = [1,", ":1:", "is not TOML"),
        ("a = 1\na = 2\n", ":2:", "a is set already, in line 1; write it once"),
        ("[a]\nb = 1\n[c]\nb = 2\nb=3 # again\n", ":5:", "b is set already, in line 4; write it once"),
        ("[geo] # shipped\n[flows]\n[geo]\nx = 1\n", ":3:", "[geo] is set already, in line 1; write it once"),
        ("a = [\n1]\na = [\n2\n]\n", ":5:", "is not TOML: Cannot overwrite a value (column"),
        ("\n\nb ? 1\n", ":3:", "is not TOML"),
        ("loader = bcc\n", ":1:", "Invalid value (column 10); a text is in quotes, and a switch is true or false"),
        ("a = " + "[" * 100_000, ":", "is nested too deeply"),
        ("detect = 1", ":1:", "must contain one table for each detector"),
        ("interfaces = []", ":1:", 'is empty; name an interface, or use ["default-route"]'),
        ('interfaces = ["/(/"]', ":1:", "is not a valid regular expression"),
        ('policy.allowlist = ["10.0.0.0/33"]', ":", "the length of an IPv4 prefix is 0 to 32"),
        ('[metrics]\nlisten = "localhost:1"', ":2:", "is not a valid address and port"),
        ('[metrics]\nlisten = "127.0.0.1:99999"', ":2:", "is not a valid address and port"),
        ('[[log]]\npath = "/x"', ":2:", "the journal has no path"),
        ('[[log]]\nformat="csv"\npath="/x"\n[[log]]\nformat="json"\npath="/x"', ":6:", "another [[log]] writes to /x"),
        ('[flows]\ninterval = "30s"', ":1:", "flows.idle_timeout: is too short"),
        ('[response]\nban_time = "30d"', ":1:", "response.max_ban_time: is shorter"),
        ("[[list]]\nlabel = 'x'", ":1:", "list[0].path: is missing"),
        (
            'egress = false\n[policy]\ndefault = "drop"\nestablished = true',
            ":4:",
            "policy.established: needs egress = true",
        ),
        ("egress = false\n[flows]\ndns_names = true", ":3:", "flows.dns_names: needs egress = true"),
        ("egress = false\n[flows]\nprocesses = true", ":3:", "flows.processes: needs egress = true"),
        ("[flows]\nunits = false\nprocesses = true", ":3:", "flows.processes: needs flows.units = true"),
        ('egress = false\n[policy]\ndefault = "drop"', ":2:", "policy.established: needs egress = true"),
    ],
)
def test_a_mistake_says_where_and_what(tmp_path: Path, text: str, where: str, what: str) -> None:
    (found,) = mistakes_of(write(tmp_path, text))
    assert found.startswith(where)
    assert what in found


@pytest.mark.parametrize("text", ['[policy]\ndefault = "drop"\nestablished = false', "policy.established = true"])
def test_without_egress_there_is_nothing_established_to_be_missed(tmp_path: Path, text: str) -> None:
    assert load_settings(write(tmp_path, f"egress = false\n{text}")).egress is False


def test_what_only_the_flags_make_wrong_is_a_mistake_too(tmp_path: Path) -> None:
    path = write(tmp_path, "egress = false")
    assert load_settings(path).policy.established
    with pytest.raises(ConfigError, match=r"the command line: policy\.established: needs egress = true"):
        load_settings(path, Flags(drop_packets=True))


def test_a_file_as_an_editor_of_windows_saves_it(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_bytes(b'\xef\xbb\xbfinterfaces = ["eth7"]\r\n[policy]\r\ndefault = "drop"\r\n')
    found = load_settings(path)
    assert (found.interfaces, found.policy.default) == (("eth7",), "drop")
    path.write_text(f"[flows]\ncapacity = {'9' * 5000}\n")
    with pytest.raises(ConfigError, match="has a number of thousands of digits"):
        load_settings(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert "there is no such file; create it, even empty, to use the defaults" in mistakes_of(tmp_path / "none.toml")[0]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero")):
        assert mistakes_of(path) == [": cannot be read: it is not a regular file"]
    with (tmp_path / "large.toml").open("wb") as file:
        file.truncate(1 << 40)
    assert mistakes_of(tmp_path / "large.toml") == [": cannot be read: it is larger than 16 MiB"]
    path = tmp_path / "latin.toml"
    path.write_bytes(b'label = "\xe9"')
    assert "byte 9 is not UTF-8" in mistakes_of(path)[0]


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, 'interfaces = ["eth0"]\n[policy]\nestablished = false\n[[log]]\nformat = "csv"\npath = "/a"')
    settings = load_settings(
        None,
        Flags(config=path, interfaces=("wl*",), drop_packets=True, xdp_mode="skb", on_stop="keep", log_buffer_size=5),
    )
    assert (settings.interfaces, settings.xdp_mode, settings.on_stop) == (("wl*",), "skb", "keep")
    assert (settings.policy.default, settings.policy.established) == ("drop", False)
    assert settings.logs == (Log(format="csv", path=Path("/a"), buffer_size=5),)


@pytest.mark.parametrize(
    ("flags", "log"),
    [
        (Flags(log_format="jsonl"), Log(format="jsonl")),
        (Flags(log_file=Path("/x/t.csv")), Log(format="csv", path=Path("/x/t.csv"))),
        (Flags(log_file=Path("/x/t")), Log(format="jsonl", path=Path("/x/t"))),
        (Flags(log_format="json", log_file=Path("/x/t.csv")), Log(format="json", path=Path("/x/t.csv"))),
        (Flags(log_format="journal"), Log()),
    ],
)
def test_log_flags_make_the_one_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: Flags, log: Log) -> None:
    monkeypatch.setattr(load, "CONFIG_FILE", tmp_path / "none.toml")
    assert load_settings(None, flags).logs == (log,)


@needs_original
def test_the_configurations_of_the_original(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    strict = load_settings(ORIGINAL / "strict.json")
    assert strict.permitted_cidrs == ("127.0.0.0/8", "192.168.1.0/24")
    assert (strict.policy.default, strict.logs) == ("monitor", (Log(format="console"),))
    assert load_settings(ORIGINAL / "strict.json", Flags(drop_packets=True)).policy.default == "drop"
    assert len(load_settings(ORIGINAL / "default.json").permitted_cidrs) == 4
    logging = load_settings(ORIGINAL / "logging-example.json")
    assert logging.logs == (
        Log(
            format="jsonl",
            path=tmp_path / "traffic_monitor.jsonl",
            buffer_size=8192,
            rotate_size=100 << 20,
            max_files=10,
        ),
    )


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"permitted_cidrs": ["10.0.0.0/8",]}', ":1: is not JSON"),
        ("[]", "must hold an object"),
        ("{}", "permitted_cidrs: is missing"),
        ('{"permitted_cidrs": ["10.0.0/8"]}', "'10.0.0/8' is not an address or prefix"),
        ('{"permitted_cidrs": [], "loging": {}}', "did you mean logging?"),
        ('{"permitted_cidrs": [], "logging": {"format": "xml"}}', "logging.format: "),
        ('{"permitted_cidrs": [], "logging": []}', "logging: must be a table"),
    ],
)
def test_mistakes_in_the_json_of_the_original(tmp_path: Path, text: str, what: str) -> None:
    (found,) = mistakes_of(write(tmp_path, text, "c.json"))
    assert what in found


def test_host_bits_are_ordinary(tmp_path: Path) -> None:
    path = write(tmp_path, '{"permitted_cidrs": ["192.168.1.7/24", "2001:db8::1/32"]}', "c.json")
    assert load_settings(path).permitted_cidrs == ("192.168.1.0/24", "2001:db8::/32")


def test_without_a_log_the_journal_gets_no_conversations_and_a_flag_or_a_log_gets_all(tmp_path: Path) -> None:
    (shipped,) = load_settings(write(tmp_path, "")).logs
    assert (shipped.format, shipped.actions, shipped.min_severity, shipped.max_rate) == ("journal", ("drop",), "low", 1)
    (own,) = load_settings(write(tmp_path, '[[log]]\nformat = "journal"')).logs
    assert (own.actions, own.max_rate) == (("monitor", "drop"), 0)
    (flagged,) = load_settings(write(tmp_path, ""), Flags(log_file=tmp_path / "t.jsonl")).logs
    assert (flagged.actions, flagged.max_rate) == (("monitor", "drop"), 0)
