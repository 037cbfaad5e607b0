#!/usr/bin/env bash
# PyPI's watchdog from 2.3.0 on (7.1.0 as well) reports that files were opened, so that a program which reads a file again
# at any event in its folder answers its own reading, without end; with Debian 12's 2.2.1 it reads three times.
#
# One watches a folder to learn of changes: `on_any_event` and a reload is the shortest way, and editors' renames make it
# the usual one. One would expect the events of before, created, modified, moved, deleted and closed after writing, to stay
# all of them. Version 2.3.0 added "opened" and 5.0.0 "closed without writing" to what on_any_event gets, on Linux only. The
# program goes on working, its files are right, and one CPU is never idle again. Newer observers can be told which
# events they are for (`event_filter`).
#
# Seen (one write, one second): 2.2.1 3 events; 6.0.0 and 7.1.0 thousands, all but 3 or 4 of its own reading
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.2.1 6.0.0 7.1.0; do
	python3 -m venv "$folder/$version"
	"$folder/$version/bin/pip" --quiet --disable-pip-version-check install "watchdog==$version" 2>/dev/null
	mkdir "$folder/watched"
	"$folder/$version/bin/python" - "$folder/watched/list" "$version" <<'PYTHON'
import sys
import time
from collections import Counter
from pathlib import Path

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

path, version = Path(sys.argv[1]), sys.argv[2]
path.write_text("192.0.2.0/24\n")
seen: Counter[str] = Counter()


class Reload(FileSystemEventHandler):
    def on_any_event(self, event: FileSystemEvent) -> None:
        seen[event.event_type] += 1
        path.read_text()


observer = Observer()
observer.schedule(Reload(), str(path.parent))
observer.start()
path.write_text("198.51.100.0/24\n")
time.sleep(1)
observer.unschedule_all()
print(version, dict(seen))
reading = seen["opened"] + seen["closed_no_write"]
if version == "2.2.1":
    assert reading == 0 and seen.total() <= 3, "the behaviour changed"
else:
    assert reading > 100, "the behaviour changed"
PYTHON
	rm -r "$folder/watched"
done
