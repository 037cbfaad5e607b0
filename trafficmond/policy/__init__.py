"""Rules, lists and guards: read from files, validated whole, compiled into the kernel's verdict table.

Pure except for the readers, which take paths: `load` reads files into a `Policy`, `table` compiles a policy into words,
`ids` numbers rules over generations, `explain` finds the rules behind an address's verdict.
"""
