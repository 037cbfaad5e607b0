"""Writes `trafficmond/abi.py` from bpf/abi.h: `python3 packaging/generate/layouts.py CLANG HEADER > abi.py`.

The beginning of the file stays as it is. Struct layouts come from the BTF that clang makes of them, constants and
enumerators from the header's own lines.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from trafficmond.datapath.btf import Btf  # noqa: E402

_BEGINS = "# ---- from here on it is generated ----\n"
# A #define whose value is a number, or sums and products of numbers and earlier names.
_DEFINE = re.compile(r"^#define (TM_[A-Z0-9_]+) ([0-9a-fA-Fxu+*() A-Z_]+?)\s*(?:/\*.*)?$", re.MULTILINE)
_WIDTH = 120
_STRUCT = re.compile(r"^struct (tm_[a-z_]+) {", re.MULTILINE)
_ENUM = re.compile(r"^enum tm_[a-z_]+ {\n(.*?)^};", re.MULTILINE | re.DOTALL)
_ENUMERATOR = re.compile(r"^\t(TM_[A-Z0-9_]+) = (\d+),", re.MULTILINE)


def render(clang: Sequence[str], header: Path) -> str:
    """The text of abi.py for `header`; `clang` is the compiler with its flags."""
    text = header.read_text()
    names = _STRUCT.findall(text)
    lines = [(ROOT / "trafficmond" / "abi.py").read_text().partition(_BEGINS)[0], _BEGINS]
    for name, value in _DEFINE.findall(text):
        lines.append(f"{name[3:]} = {_number(value)}\n")
    for body in _ENUM.findall(text):
        values = {name[3:]: int(value) for name, value in _ENUMERATOR.findall(body)}
        together = f"{', '.join(values)} = range({len(values)})\n"
        if [*values.values()] == [*range(len(values))] and len(together) <= 121:
            lines.append(together)
        else:
            lines += [f"{name} = {value}\n" for name, value in values.items()]
    structs = _layouts(clang, header, names)
    all_of_them = repr(sorted((name, str(dtype)) for name, dtype in structs.items()))
    lines += [f'LAYOUT = "{zlib.crc32(all_of_them.encode()):08x}"  # of all structs\n', '\n_read("""\n']
    for name in names:  # in the header's order: members' structs come first
        fields: Mapping[str, Any] = structs[name].fields or {}
        placed = (f"{field}~{at}~{_format(dtype, structs)}" for field, (dtype, at, *_) in fields.items())
        whole = f"{name}~{structs[name].itemsize}: {', '.join(placed)}"
        lines += [f"{line}\n".replace("~", " ") for line in textwrap.wrap(whole, _WIDTH, subsequent_indent=" ")]
    return "".join([*lines, '""")\n'])


def _layouts(clang: Sequence[str], header: Path, names: Sequence[str]) -> dict[str, np.dtype[np.void]]:
    """The layouts of structs: a variable of each makes clang describe them all."""
    source = f'#include "{header.absolute()}"\n' + "".join(f"struct {name} {name}_;\n" for name in names)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "abi.o"
        subprocess.run([*clang, "-x", "c", "-c", "-", "-o", str(made)], input=source, text=True, check=True)
        return Btf(made).structs(names)


def _number(text: str) -> str:
    plain = re.sub(r"(?<=[0-9a-fA-F])u\b", "", text.strip())
    return re.sub(r"\bTM_", "", plain)


def _format(dtype: np.dtype[Any], structs: Mapping[str, np.dtype[np.void]]) -> str:
    if dtype.subdtype is not None:
        base, (count,) = dtype.subdtype
        return f"{_format(base, structs)}:{count}"
    if dtype.names:
        return next(name for name, struct in structs.items() if struct == dtype)
    return dtype.str


if __name__ == "__main__":
    sys.stdout.write(render(shlex.split(sys.argv[1]), Path(sys.argv[2])))
