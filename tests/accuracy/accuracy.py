"""What the detectors find and miss: every labelled capture through the shipped defaults, offline, and the score.

usage: accuracy.py [--captures DIR] [--scorer FILE] [--out FILE] [--write-docs FILE]

Writes one JSON array of threats a capture to build/accuracy/, lets the scorer count, and puts its figures into
build/accuracy.json. Captures and scorer lie beside the project; without them there is nothing to measure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from trafficmond.analyze.run import analyze  # noqa: E402
from trafficmond.config.load import load_settings  # noqa: E402
from trafficmond.detect.registry import settings_classes  # noqa: E402

BEGIN, END = "<!-- measured: make accuracy writes this part -->", "<!-- end of the measured part -->"


def threats_of(capture: Path, settings: Any) -> tuple[list[dict[str, Any]], float]:
    """(threats as `trafficctl -o json analyze` prints them, seconds it took)."""
    began = time.perf_counter()
    report = analyze([str(capture)], settings, 0.0)
    return report["threats"], time.perf_counter() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=Path, default=ROOT.parent / "shared/data/pcaps")
    parser.add_argument("--scorer", type=Path, default=ROOT.parent / "shared/design/score.py")
    parser.add_argument("--out", type=Path, default=ROOT / "build/accuracy.json")
    parser.add_argument("--write-docs", type=Path, metavar="FILE", help="put the table into this page")
    args = parser.parse_args()
    truth = args.captures / "TRUTH.jsonl"
    if not truth.exists() or not args.scorer.exists():
        print(
            f"accuracy: {truth} and {args.scorer} are needed; name them with --captures and --scorer", file=sys.stderr
        )
        return 2

    settings = load_settings(None, detectors=settings_classes())
    alerts = args.out.parent / "accuracy"
    alerts.mkdir(parents=True, exist_ok=True)
    for old in alerts.glob("*.json"):
        old.unlink()
    files = []
    for record in map(json.loads, truth.read_text().splitlines()):
        capture = args.captures / record["file"]
        threats, seconds = threats_of(capture, settings)
        (alerts / f"{capture.name}.json").write_text(json.dumps(threats))
        files.append({"file": record["file"], "seconds": round(seconds, 3), "threats": threats})
        said = ", ".join(
            f"{t['detector']} {t['severity']} {t['src_ip'] or '*'} -> {t['dst_ip'] or '*'}" for t in threats
        )
        print(f"{record['file']:48} {seconds:6.2f} s  {said or '-'}")

    print()
    command = [sys.executable, str(args.scorer), str(alerts), str(truth), "--json", str(args.out)]
    table = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    print(table, end="")
    score = json.loads(args.out.read_text())
    args.out.write_text(json.dumps({**score, "files": files}, indent=1))
    if args.write_docs:
        page = args.write_docs.read_text()
        head, tail = page.split(BEGIN)[0], page.split(END)[1]
        args.write_docs.write_text(f"{head}{BEGIN}\n\n```\n{table}```\n\n{END}{tail}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
