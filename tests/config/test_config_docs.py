from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from trafficmond.config.declare import Spec, TableSpec, declared
from trafficmond.config.load import load_settings
from trafficmond.config.settings import Settings

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "etc/trafficmond.toml"


def test_the_sample_as_shipped_is_the_defaults() -> None:
    settings = load_settings(SAMPLE)
    assert settings == Settings(source=SAMPLE)


def test_the_sample_uncommented_is_right_too(tmp_path: Path) -> None:
    text = re.sub(r"^#(?=[\[a-z])", "", SAMPLE.read_text(), flags=re.MULTILINE)
    text = text.replace('format = "journal"', 'format = "csv"')
    text = re.sub(r"^url = .*\n", "", text, flags=re.MULTILINE)  # which is instead of a path
    path = tmp_path / "trafficmond.toml"
    path.write_text(text)
    settings = load_settings(path)
    assert settings.interfaces == ("eth0", "wl*", "/^en.+$/")
    assert settings.lists[0].path == tmp_path / "cidr.d/firehol_level1.netset"


def _keys(cls: type, prefix: str = "") -> Iterator[str]:
    for key, (_, spec) in declared(cls).items():
        if isinstance(spec, TableSpec):
            yield from _keys(spec.cls, f"{key}.")
        else:
            assert isinstance(spec, Spec)
            yield prefix + key


def test_every_setting_is_in_the_sample() -> None:
    text = re.sub(r"^#(?=[\[a-z])", "", SAMPLE.read_text(), flags=re.MULTILINE)
    raw = tomllib.loads(text)
    for key in _keys(Settings):
        table, _, name = key.rpartition(".")
        where = raw[table] if table else raw
        assert name in (where[0] if isinstance(where, list) else where), key


def test_every_help_is_a_sentence() -> None:
    def helps(cls: type) -> Iterator[str]:
        for _, spec in declared(cls).values():
            yield spec.help
            if isinstance(spec, TableSpec):
                yield from helps(spec.cls)

    for text in helps(Settings):
        assert text.endswith("."), text
