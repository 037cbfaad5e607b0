"""The ready lists: they are read as settings, and make a policy before and after they are fetched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from trafficmond.config.load import load_settings
from trafficmond.feeds.fetch import fetch
from trafficmond.feeds.http import Answer, Validators
from trafficmond.geo.geoip import EMPTY
from trafficmond.policy.sources import read_policy

SAMPLE = Path(__file__).parents[2] / "packaging" / "samples" / "feeds.toml"
SHAPES = {
    "www.spamhaus.org": b'{"cidr":"1.10.16.0/20"}\n',
    "feeds.dshield.org": b"Start\tEnd\tNetmask\n80.94.95.0\t80.94.95.255\t24\t4151\n",
}


def test_the_ready_lists(tmp_path: Path) -> None:
    settings = load_settings(SAMPLE)
    settings = replace(settings, feeds_dir=tmp_path, cidr_dir=tmp_path / "cidr.d", state_dir=tmp_path)
    assert [each.label for each in settings.lists if each.url_allow] == ["crowdsec"]
    assert len(read_policy(settings, EMPTY).rules) == len(settings.lists)

    def ask(url: str, _: object, __: Validators) -> Answer:
        host = url.partition("://")[2].partition("/")[0]
        return Answer(SHAPES.get(host, b"198.51.100.0/24\n"), Validators())

    assert fetch(settings, lambda: 1.7e9, ask=ask) == 0
    policy = read_policy(settings, EMPTY)
    assert len(policy.prefixes) == len(settings.lists)
    assert {str(rule.direction) for rule in policy.rules if "spamhaus" in rule.label} == {"both"}
