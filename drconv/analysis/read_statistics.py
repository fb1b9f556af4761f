"""Statistics of an image from the dictionary that `RegionStatistics.to_dict` made of them."""

from collections.abc import Callable
from math import isfinite
from typing import Any, TypeVar

from drconv.analysis.filters import FilterStatistics
from drconv.analysis.statistics import LayerStatistics, RegionStatistics, optional_part
from drconv.errors import FileError

__all__ = ["statistics_from_dict"]

_Value = TypeVar("_Value")
_Read = Callable[[Any], _Value]


def statistics_from_dict(data: object) -> RegionStatistics:
    """Return the statistics whose `to_dict` is `data`; what follows from other numbers is computed again.

    Args:
        data: from JSON, checked as something that anybody may have written.

    Raises:
        FileError: a key is missing, or a value is of another kind or length than it must be.
        DrconvError: a part needs the extra `viz`, which is not installed.
    """
    return RegionStatistics(tuple(_layer(each) for each in _list(_dict(data), "layers", lambda layer: layer)))


def _layer(data: object) -> LayerStatistics:
    layer = _dict(data)
    m = _count(layer.get("num_regions"))
    margins = () if layer.get("region_margins") == [] else _list(layer, "region_margins", _maybe, m)
    grid = _list(layer, "grid", _count, 2)
    return LayerStatistics(
        _text(layer.get("name")),
        (grid[0], grid[1]),
        _list(layer, "region_positions", _count, m),
        _list(layer, "region_share", _number, m),
        _list(layer, "filter_norms", _maybe, m),
        _list(layer, "filter_cosines", lambda row: _values(row, _maybe, m), m),
        margins,
        _count(layer.get("unscored")),
        _shapes(_dict(layer["shapes"]), m) if "shapes" in layer else None,
        _filters(_dict(layer["filters"]), m) if "filters" in layer else None,
        _maybe(layer.get("agreement")),
        _labels(_dict(layer["labels"]), m) if "labels" in layer else None,
    )


def _shapes(data: dict[str, Any], m: int) -> Any:
    return optional_part("shapes").ShapeStatistics(
        _list(data, "components", _count, m),
        _list(data, "component_sizes", _maybe, m),
        _list(data, "boundary_lengths", _count, m),
        _maybe(data.get("boundary_share")),
    )


def _filters(data: dict[str, Any], m: int) -> FilterStatistics:
    return FilterStatistics(
        _list(data, "distances", lambda row: _values(row, _maybe, m), m),
        _list(data, "singular_values", lambda row: _values(row, _number), m),
        _list(data, "effective_ranks", _maybe, m),
        _list(data, "movements", _maybe, m),
    )


def _labels(data: dict[str, Any], m: int) -> Any:
    classes = _list(data, "classes", _integer)
    table = _list(data, "table", lambda row: _values(row, _count, len(classes)), m)
    make = optional_part("agreement").LabelAgreement
    return make(_number(data.get("nmi")), _number(data.get("ari")), classes, table)


def _dict(data: object) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise _wrong("an object", data)
    return data


def _list(data: dict[str, Any], key: str, read: _Read[_Value], length: int | None = None) -> tuple[_Value, ...]:
    return _values(data.get(key), read, length)


def _values(data: object, read: _Read[_Value], length: int | None = None) -> tuple[_Value, ...]:
    if not isinstance(data, list) or (length is not None and len(data) != length):
        raise _wrong("a list" if length is None else f"a list of {length}", data)
    return tuple(map(read, data))


def _integer(data: object) -> int:
    if type(data) is not int or abs(data) > 2**53:
        raise _wrong("an integer", data)
    return data


def _count(data: object) -> int:
    if _integer(data) < 0:
        raise _wrong("a count", data)
    return _integer(data)


def _number(data: object) -> float:
    if type(data) is int:
        return float(_integer(data))
    if type(data) is not float or not isfinite(data):
        raise _wrong("a number", data)
    return data


def _maybe(data: object) -> float | None:
    return None if data is None else _number(data)


def _text(data: object) -> str:
    if not isinstance(data, str):
        raise _wrong("a text", data)
    return data


def _wrong(wanted: str, got: object) -> FileError:
    shown = repr(got)
    return FileError(f"statistics need {wanted}, got {shown if len(shown) < 60 else f'{shown[:57]}...'}")
