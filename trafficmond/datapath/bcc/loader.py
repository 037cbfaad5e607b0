"""The second loader: bcc compiles the data path on this host, from the same source, without kernel headers.

bcc and LLVM cost more memory than the whole daemon, so a child does it: it makes the maps as pins in a folder of its
own, gives the programs the kept ones in place of those, pins the programs beside them, and ends. What is pinned there
is opened here and the folder removed.
"""

import json
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path

from trafficmond.datapath import libbpf
from trafficmond.datapath.loader import MAPS, Loaded, Sizes, constants
from trafficmond.datapath.pins import remove_tree
from trafficmond.errors import DatapathError

_KINDS = {"tm_xdp": "xdp", "tm_tc": "tc", "tm_tick": "xdp"}
_UNUSED = {  # by program: the maps of MAPS that its source does not name
    "tm_xdp": {"tm_clock", "tm_taken"},
    "tm_tc": {"tm_clock", "tm_taken", "tm_bans", "tm_ban_services"},
    "tm_tick": MAPS.keys() - {"tm_clock"},
}
_INSIDE = {"tm_inners"}  # named only where tunnels are looked into
_TIMEOUT_S = 900.0  # for a compiler that hangs: seconds are usual, minutes if emulated


def load(sizes: Sizes, kept: Mapping[str, int], seed: int | None, pin_dir: Path, *, owners: bool = False) -> Loaded:
    """Compiles and loads; `kept` are maps of the last run to reuse, `owners`: records have their owner.
    Raises DatapathError with bcc's output."""
    seed = secrets.randbits(64) if seed is None else seed
    programs, maps = compiled("trafficmon.bpf.c", _KINDS, MAPS, pin_dir, kept, _defines(sizes, seed, owners))
    loaded = Loaded("bcc", programs, maps, seed, kept.keys() == MAPS.keys(), owners)
    _check(loaded, set() if sizes.look_inside else _INSIDE)
    return loaded


def _sources() -> Path:
    here = Path(__file__).resolve().parents[3]
    for folder in (here / "bpf", Path("/usr/lib/trafficmon/bpf")):
        if (folder / "trafficmon.bpf.c").exists():
            return folder
    raise DatapathError("the data path's sources are not installed", hint="reinstall the trafficmon package")


@contextmanager
def _pin_folder(pin_dir: Path) -> Iterator[Path]:
    folder = pin_dir / "bcc"
    remove_tree(folder)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove_tree(folder)


def compiled(
    source: str,
    kinds: Mapping[str, str],
    wanted: Iterable[str],
    pin_dir: Path,
    kept: Mapping[str, int] | None = None,
    defines: Mapping[str, str] | None = None,
) -> tuple[dict[str, int], dict[str, int]]:
    """Descriptors of the programs of a source, loaded, and of the maps that are wanted, by name; `kinds` of the
    programs as the child has them. Raises DatapathError."""
    kept = kept or {}
    sources = _sources()
    with _pin_folder(pin_dir) as pins:
        old = {name: str(pins / f"kept_{name}") for name in kept}
        for name, path in old.items():
            libbpf.pin(kept[name], path)
        defined = {"TM_BCC": "1", "TM_PINS": f'"{pins}/"', **(defines or {})}
        job = {
            "source": str(sources / source),
            "headers": str(sources / "bcc"),
            "pins": str(pins),
            "kept": old,
            "flags": [
                f"-I{sources}",
                "-Wno-unknown-attributes",
                *(f"-D{name}={value}" for name, value in defined.items()),
            ],
            "programs": kinds,
        }
        _run(job)
        programs = {name: libbpf.open_pin(str(pins / name)) for name in kinds}
        return programs, {name: libbpf.open_pin(old.get(name, str(pins / name))) for name in wanted}


def _defines(sizes: Sizes, seed: int, owners: bool) -> dict[str, str]:
    known = constants(sizes, seed)
    entries = sizes.entries()
    return {
        "TM_NUM_CPUS": str(sizes.cpus),
        "TM_NUM_SETS": str(entries["tm_sets"]),
        "TM_NUM_EVICTED": str(entries["tm_evicted"]),
        "TM_NUM_INNERS": str(entries["tm_inners"]),
        "TM_LOOK_INSIDE": str(int(sizes.look_inside)),
        "c_seed": f"{known['seed']}ull",
        "c_set_mask": f"{known['set_mask']}u",
        "c_ring_mask": f"{known['ring_mask']}u",
        "c_hz": f"{known['hz']}u",
        "TM_OWNERS": str(int(owners)),
    }


def _run(job: Mapping[str, object]) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trafficmond.datapath.bcc.child"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            cwd=Path(__file__).resolve().parents[3],
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DatapathError(f"bcc could not be run: {error}") from error
    if done.returncode == 0:
        return
    if "No module named 'bcc'" in done.stderr:
        raise DatapathError("bcc is not installed", hint='install python3-bpfcc, or use loader = "libbpf"')
    raise DatapathError(f"bcc could not load the data path:\n{done.stderr[-2000:]}".rstrip())


def _check(loaded: Loaded, nowhere: Set[str]) -> None:
    """bcc numbers maps by the order of their declaration: see that each program got the maps that its source names."""
    names = {libbpf.map_info(fd).id: name for name, fd in loaded.maps.items()}
    for program, unused in _UNUSED.items():
        used = {names[i] for i in libbpf.program_map_ids(loaded.programs[program]) if i in names}
        if used != MAPS.keys() - unused - nowhere:
            loaded.close()
            raise DatapathError(f"bcc mixed up the maps of {program}: it uses {sorted(used)}")
