"""A rulebook with one file of rules in force."""

from __future__ import annotations

from pathlib import Path

import pytest
from rulebook_book import RULE, Book


@pytest.fixture
def book(tmp_path: Path) -> Book:
    made = Book(tmp_path)
    made.write("one.toml", '[[rule]]\ncidr = "198.51.100.0/24"\naction = "drop"\n')
    made.run(made.rules.load())
    return made


@pytest.fixture
def started(book: Book) -> Book:
    book.write("a.toml", RULE)
    book.run(book.rules.load())
    return book
