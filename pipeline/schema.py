"""Converts frozen dataclasses to rows and Arrow types, so that Record alone defines the schema of a manifest."""

from __future__ import annotations

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


@functools.cache
def arrow_codec(cls: type) -> ArrowCodec:
    """The codec of a dataclass, made once."""
    return ArrowCodec(cls)


class ArrowCodec:
    """How values of one dataclass become rows of dicts and lists, and rows values again.

    Fields may be str, int, float, bool, Literal, another dataclass, `X | None`, or a tuple of any
    length of one of these. A million records pass here, so plain fields are taken all at once and only nested
    ones one by one.
    """

    def __init__(self, cls: type) -> None:
        fields = dataclasses.fields(cls)
        hints = {name: _bare(hint) for name, hint in typing.get_type_hints(cls).items()}
        self.cls = cls
        self.hints = {f.name: hints[f.name] for f in fields}
        self.names = tuple(self.hints)
        self.get: Callable[[Any], tuple[Any, ...]] = operator.attrgetter(*self.names)
        self.nested = [(name, _inner(hint), _is_list(hint)) for name, hint in self.hints.items() if _inner(hint)]
        self.tuples = [name for name, hint in self.hints.items() if _is_list(hint) and not _inner(hint)]
        self.undigested = [f.name for f in fields if not f.metadata.get("digest", True)]

    def row(self, value: Any) -> Row:
        """A value as a dict of scalars, dicts and lists."""
        row = dict(zip(self.names, self.get(value), strict=True))
        for name, inner, several in self.nested:
            if (inner_value := row[name]) is not None:
                row[name] = (
                    list(map(arrow_codec(inner).row, inner_value)) if several else arrow_codec(inner).row(inner_value)
                )
        return row

    def value(self, row: Row) -> Any:
        """The inverse of `row`; changes the dict `row`."""
        for name, inner, several in self.nested:
            if (inner_value := row[name]) is not None:
                row[name] = (
                    tuple(map(arrow_codec(inner).value, inner_value))
                    if several
                    else arrow_codec(inner).value(inner_value)
                )
        for name in self.tuples:
            row[name] = tuple(row[name])
        return self.cls(**row)

    def without_undigested(self, row: Row) -> Row:
        """A row without the fields that are marked `digest: False`, here and one level below."""
        left = {name: value for name, value in row.items() if name not in self.undigested}
        for name, inner, several in self.nested:
            if arrow_codec(inner).undigested and not several and left[name] is not None:
                left[name] = arrow_codec(inner).without_undigested(left[name])
        return left

    def arrow(self) -> pa.StructType:
        """The Arrow type of a row."""
        import pyarrow as pa

        return pa.struct([pa.field(name, _arrow(hint)) for name, hint in self.hints.items()])


def _arrow(hint: Any) -> Any:
    import pyarrow as pa

    plain = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    if hint in plain:
        return plain[hint]
    return pa.list_(_arrow(typing.get_args(hint)[0])) if _is_list(hint) else arrow_codec(hint).arrow()


def _bare(hint: Any) -> Any:
    """The type that is stored for `X | None` and Literal."""
    if typing.get_origin(hint) is typing.Literal:
        return str
    if isinstance(hint, types.UnionType):
        return next(arg for arg in typing.get_args(hint) if arg is not types.NoneType)
    return hint


def _inner(hint: Any) -> Any:
    """The dataclass inside a type hint; None for scalar types."""
    inner = typing.get_args(hint)[0] if _is_list(hint) else hint
    return inner if dataclasses.is_dataclass(inner) else None


def _is_list(hint: Any) -> bool:
    return typing.get_origin(hint) is tuple
