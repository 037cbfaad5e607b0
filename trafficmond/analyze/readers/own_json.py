"""The JSON log of the daemon, and of the original program: JSON lines, or an array of the same objects."""

from collections.abc import Iterator

from trafficmond.analyze.events import EventReader, one_a_line
from trafficmond.analyze.jsonstream import is_list, objects
from trafficmond.analyze.run_stats import RunStats
from trafficmond.analyze.sample import Lacks, Sample, with_time
from trafficmond.analyze.source import Source
from trafficmond.flows.batch import Batch

TITLE = "traffic log (JSON)"


_PACKET = ("timestamp", "src_ip", "dst_ip", "action", "packet_size")
_THREAT = ("event", "detector", "severity")


def lacks(sample: Sample) -> Lacks:
    """The reasons why a file that begins like this is not such a log; a log with only threats is one."""
    packets, threats = sample.object_lacks(_PACKET, with_time), sample.object_lacks(_THREAT)
    return threats if packets is None or threats == [] else packets


def read(source: Source, stats: RunStats) -> Iterator[Batch]:
    """DELTA rows, one packet for each line."""
    reader = EventReader(source, stats)
    if one_a_line(source.head) and not source.enveloped and not is_list(source.head):
        yield from reader.read_lines()
        return
    for line, value in objects(source):
        reader.add(line, value)
        yield from reader.rows()
    yield from reader.finish()
