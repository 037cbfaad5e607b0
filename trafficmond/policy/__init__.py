"""Rules, lists and guards: read from files, validated whole, compiled into the kernel's verdict table.

Pure but for the readers, which take paths: `load` reads files into a `Policy`, `table` compiles a policy into
words, `ids` names rules over generations, `explain` answers why an address gets its verdict.
"""
