"""Data classes as in the standard library, but cheaper to define: only `__init__` is compiled for each class, not five
more methods. That nobody changes a frozen object is checked by mypy, not at run time."""

import dataclasses
from dataclasses import InitVar, asdict, astuple, field, fields, is_dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["InitVar", "asdict", "astuple", "dataclass", "field", "fields", "is_dataclass", "replace"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls=None, /, *, frozen=False, eq=True, slots=False):
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, eq=eq, slots=slots)
        cls.__doc__ = cls.__doc__ or cls.__name__  # otherwise a signature is put together, slowly
        made = dataclasses.dataclass(cls, repr=False, eq=False, slots=slots)
        made.__repr__ = _repr
        if eq:
            values = attrgetter("__class__", *(each.name for each in fields(made)))
            made.__eq__ = lambda a, b: values(a) == values(b) if type(a) is type(b) else NotImplemented
            made.__hash__ = (lambda self: hash(values(self))) if frozen else None
        return made


def _repr(self: Any) -> str:
    values = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
    return f"{type(self).__qualname__}({', '.join(values)})"
