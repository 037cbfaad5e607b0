"""How much the kernel's verifier had to look at: it takes a million instructions, over all ways through a program."""

from __future__ import annotations

from pathlib import Path

from trafficmond.datapath import libbpf


def verified(process: int | str = "self") -> dict[str, int | None]:
    """Instructions that the verifier processed, by the names of the programs that a process has open.

    verified_insns of struct bpf_prog_info, as fdinfo shows it too; None: kernels before 5.16 do not tell.
    """
    found: dict[str, int | None] = {}
    for path in Path(f"/proc/{process}/fdinfo").iterdir():
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:  # the folder's own descriptor
            continue
        words = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if "prog_jited" in words:  # a program, and no link, which has a prog_id too
            said = words.get("verified_insns")
            found[libbpf.program_name(int(words["prog_id"]))] = None if said is None else int(said)
    return found
