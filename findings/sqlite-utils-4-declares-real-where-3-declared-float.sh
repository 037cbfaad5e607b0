#!/usr/bin/env bash
# sqlite-utils 4: the same create_table() declares another column type than 3 did, so a table made anew differs from one
# that was made before and brought forward.
#
# A schema that is kept by version (PRAGMA user_version, each step once) ends up the same on every host: that is what the
# steps are for. With sqlite-utils as the maker it depends on which release made the file: Python's float was FLOAT in
# 3.39 and is REAL in 4.2.1. SQLite takes both for the same affinity, so nothing fails; what compares declared types
# (a check of an old file against a fresh one, a replica, a dump in a test) says that the tables differ.
#
# Seen: 3.39 "seen FLOAT", 4.2.1 "seen REAL"; a value is stored as real by both.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

cat > "$folder/make.py" <<'PYTHON'
import sqlite_utils

database = sqlite_utils.Database(memory=True)
database["hosts"].create({"name": str, "seen": float})
database["hosts"].insert({"name": "a", "seen": 1.5})
(declared,) = [column.type for column in database["hosts"].columns if column.name == "seen"]
((stored,),) = database.execute("select typeof(seen) from hosts").fetchall()
print(f"seen {declared}, stored as {stored}")
PYTHON

expect() {
    python3 -m venv "$folder/$1"
    "$folder/$1/bin/pip" --quiet --disable-pip-version-check install "sqlite-utils==$1"
    found=$("$folder/$1/bin/python" -W ignore "$folder/make.py")
    echo "sqlite-utils $1: $found"
    [ "$found" = "$2" ] || { echo "the behaviour changed" >&2 && exit 1; }
}

expect 3.39 "seen FLOAT, stored as real"
expect 4.2.1 "seen REAL, stored as real"
