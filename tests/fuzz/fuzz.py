"""Runs the fuzzing targets: libFuzzer against the C of captures, log lines and answers of DNS, atheris against each
reader in Python.

usage: fuzz.py MINUTES [TARGET ...]

All together take so many minutes; two run at a time. What is new in a corpus stays in build/fuzz and is begun with the
next time; in CI the mutations are the same ones each time, and no more on a quick machine than on a slow one. The
exit code is 1 if a target crashed, hung or lost packets: the input that does it is named.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from seeds import seeds

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build/fuzz"
IN_C = {"capture": ["fuzz_host.c"], "lines": ["fuzz_host.c", "-DTM_FUZZ_LINES"], "dns": ["fuzz_dns.c"]}  # source, flags
CUT = ("capture", "lines")  # whose seeds have no first byte, which says where they are cut in two
IN_PYTHON = ("any", "zeek", "argus", "eve", "vpc", "ocsf", "ecs", "own_json", "own_csv", "journal", "flows_db")
HANG_S, MOST_MIB, MOST_BYTES = 20, 2048, 16384
AT_A_TIME = 2
IN_CI = (15_000, 500_000)  # inputs of a reader in Python, and of the C: about half a minute's, on any machine the same


def build(target: str) -> list[str]:
    """The command of a target, whose C is compiled."""
    if target not in IN_C:
        return [sys.executable, str(HERE / "fuzz_reader.py"), target]
    program = BUILD / target
    sanitizers = ["-fsanitize=fuzzer,address,undefined", "-fno-sanitize=alignment", "-fno-sanitize-recover=undefined"]
    source, *flags = IN_C[target]
    command = ["clang", "-O1", "-g", *sanitizers, *flags, f"-I{ROOT / 'bpf'}", str(HERE / source), "-o", str(program)]
    subprocess.run(command, check=True)
    return [str(program)]


def run(target: str, seconds: int) -> tuple[bool, str]:
    """(whether all is well, what to say of it)."""
    corpus, artifacts = BUILD / "corpus" / target, BUILD / "found" / target
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds("own_json" if target == "lines" else target)):
        (corpus / f"seed{number}").write_bytes(bytes(1) + seed if target in CUT else seed)
    options = [
        f"-max_total_time={seconds}",
        f"-timeout={HANG_S}",
        f"-rss_limit_mb={MOST_MIB}",
        f"-max_len={MOST_BYTES}",
        *(["-seed=1", f"-runs={IN_CI[target in IN_C]}"] if os.environ.get("CI") else []),
    ]
    command = [*build(target), *options, f"-artifact_prefix={artifacts}/", "-print_final_stats=1", str(corpus)]
    in_python = {"ASAN_OPTIONS": "detect_leaks=0", "PYTHONHASHSEED": "0"}
    environment = os.environ | (in_python if target not in IN_C else {})
    log = BUILD / f"{target}.log"
    with log.open("wb") as file:
        status = subprocess.run(command, stdout=file, stderr=file, env=environment, check=False).returncode
    said = log.read_text(errors="replace")
    runs = re.findall(r"number_of_executed_units: (\d+)", said)
    covered = re.findall(r"cov: (\d+)", said)
    tried = f"{target}: {int(runs[-1]) if runs else 0:,} inputs, {covered[-1] if covered else 0} places covered"
    found = re.findall(r"Test unit written to (\S+)", said)
    if status == 0 and runs and int(runs[-1]):
        return True, tried
    return False, f"{tried}; FAILED with {found[-1] if found else 'no input'}, see {log}"


def main(minutes: float, targets: list[str]) -> int:
    """Runs all; the exit code."""
    targets = targets or [*IN_C, *IN_PYTHON]
    seconds = round(minutes * 60 * AT_A_TIME / len(targets))
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        results = list(pool.map(lambda target: run(target, seconds), targets))
    for _, line in results:
        print(line)
    failed = sum(1 for good, _ in results if not good)
    print(f"{seconds} s for each target: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    BUILD.mkdir(parents=True, exist_ok=True)
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
