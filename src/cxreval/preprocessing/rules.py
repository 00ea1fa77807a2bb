"""What is wrong with declared preprocessing beyond the forms of its single fields."""

from __future__ import annotations

from collections.abc import Iterator

from cxreval.errors import CxrevalError, FieldsContradict
from cxreval.fields import field_error, required
from cxreval.preprocessing.record import (
    ANTIALIAS,
    CropKind,
    Equalize,
    EqualizeKind,
    Interpolation,
    Library,
    Preprocessing,
    Resize,
    ResizeTo,
    Square,
    TensorType,
    pair,
)

_LARGEST_FLOAT16 = 32_000.0  # float16 ends at 65,504, and a bicubic resize exceeds its range


def preprocessing_problems(steps: Preprocessing, path: str) -> list[CxrevalError]:
    """Returns what is wrong with a declaration whose fields have their forms, by themselves.

    Each error names its field, `path` first. `FieldsContradict` also names the other field.
    """
    return [
        *_value_problems(steps, path),
        *_resize_problems(steps, path),
        *_crop_problems(steps, path),
        *_equalize_problems(steps.equalize, f"{path}.equalize"),
        *_type_problems(steps, path),
    ]


def _contradiction(
    field: str, value: object, other: str, context: object, cure: str
) -> CxrevalError:
    text = f"{field} is {_text(value)}, but {other} is {_text(context)}; {cure}"
    return FieldsContradict(text, field=field, other=other, value=_text(value), expected=cure)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value_problems(steps: Preprocessing, path: str) -> Iterator[CxrevalError]:
    channels = steps.channels
    if channels not in (1, 3):
        yield field_error(f"{path}.channels", channels, "1 or 3")
    if len(steps.value_range) != 2 or len(set(steps.value_range)) != 2:
        expected = "two different numbers, [black, white]"
        yield field_error(f"{path}.value_range", _text(steps.value_range), expected)
    for name, values in (("mean", steps.mean), ("std", steps.std)):
        if values and len(values) != channels:
            cure = f"give {channels} value{'s' if channels > 1 else ''}, one a channel"
            yield _contradiction(f"{path}.{name}", values, f"{path}.channels", channels, cure)


def _resize_problems(steps: Preprocessing, path: str) -> Iterator[CxrevalError]:
    resize, at = steps.resize, f"{path}.resize"
    if resize.to == ResizeTo.NONE:
        for name, value in (("size", resize.size), ("antialias", resize.antialias)):
            if value not in ((), None):
                cure = f"remove {name}, or set to: exact, short-side or long-side"
                yield _contradiction(f"{at}.{name}", value, f"{at}.to", resize.to, cure)
        return
    if not resize.size:
        yield required(f"{at}.size", "the size in pixels", f"to: {resize.to}")
    elif len(resize.size) > 1 and resize.to != ResizeTo.EXACT:
        cure = "give one number, or set to: exact"
        yield _contradiction(f"{at}.size", resize.size, f"{at}.to", resize.to, cure)
    elif len(resize.size) > 2:
        yield field_error(f"{at}.size", _text(resize.size), "one number or [height, width]")
    yield from _library_problems(resize, at)
    if resize.library == Library.TORCHXRAYVISION:
        yield from _xrv_problems(steps, path)


def _library_problems(resize: Resize, at: str) -> Iterator[CxrevalError]:
    offered = ANTIALIAS[resize.library]
    if resize.interpolation not in offered:
        cure = f"{resize.library} has {', '.join(offered)}"
        yield _contradiction(
            f"{at}.interpolation", resize.interpolation, f"{at}.library", resize.library, cure
        )
    elif resize.antialias is not None and resize.antialias not in offered[resize.interpolation]:
        what = f"{resize.library}'s {resize.interpolation}"
        has = "never has a filter" if resize.antialias else "always has its filter"
        other = "interpolation" if resize.interpolation == Interpolation.NEAREST else "library"
        yield _contradiction(
            f"{at}.antialias",
            str(resize.antialias).lower(),
            f"{at}.{other}",
            getattr(resize, other),
            f"{what} {has}: remove antialias",
        )


def _xrv_problems(steps: Preprocessing, path: str) -> Iterator[CxrevalError]:
    for name, value in (("channels", 1), ("value_range", (-1024.0, 1024.0))):
        given = getattr(steps, name)
        if given != value:
            cure = f"set {name}: {_text(value)}, or resize.library: scikit-image"
            library = steps.resize.library
            yield _contradiction(f"{path}.resize.library", library, f"{path}.{name}", given, cure)


def _crop_problems(steps: Preprocessing, path: str) -> Iterator[CxrevalError]:
    crop, at = steps.crop, f"{path}.crop"
    if crop.kind == CropKind.NONE:
        if crop.size:
            cure = "remove size, or set kind: center, five or ten"
            yield _contradiction(f"{at}.size", crop.size, f"{at}.kind", crop.kind, cure)
        return
    to, size = steps.resize.to, steps.resize.size
    if not crop.size:
        yield required(f"{at}.size", "the size in pixels", f"kind: {crop.kind}")
    elif len(crop.size) > 2:
        yield field_error(f"{at}.size", _text(crop.size), "one number or [height, width]")
    elif to == ResizeTo.NONE or (to == ResizeTo.LONG_SIDE and steps.square == Square.NONE):
        cure = "an image may be smaller than the crop: set resize.to: short-side or exact"
        yield _contradiction(f"{at}.kind", crop.kind, f"{path}.resize.to", to, cure)
    elif len(size) in (1, 2) and any(
        part > whole for part, whole in zip(pair(crop.size), pair(size), strict=True)
    ):
        cure = f"the crop must lie within the resized image: at most {_text(size)}"
        yield _contradiction(f"{at}.size", crop.size, f"{path}.resize.size", size, cure)


def _equalize_problems(equalize: Equalize, at: str) -> Iterator[CxrevalError]:
    clahe = equalize.kind == EqualizeKind.CLAHE
    for name, about in (("clip", "the clip limit"), ("tiles", "the tiles along each side")):
        value = getattr(equalize, name)
        if clahe and value is None:
            yield required(f"{at}.{name}", about, "kind: clahe")
        elif not clahe and value is not None:
            cure = f"remove {name}, or set kind: clahe"
            yield _contradiction(f"{at}.{name}", value, f"{at}.kind", equalize.kind, cure)


def _type_problems(steps: Preprocessing, path: str) -> Iterator[CxrevalError]:
    at = f"{path}.dtype"
    if steps.dtype == TensorType.UINT8:
        for name in ("mean", "std"):
            if values := getattr(steps, name):
                cure = f"remove {name}, or set dtype: float32"
                yield _contradiction(f"{path}.{name}", values, at, steps.dtype, cure)
        if steps.value_range != (0, 255):
            cure = "set value_range: [0, 255], or dtype: float32"
            yield _contradiction(f"{path}.value_range", steps.value_range, at, steps.dtype, cure)
    elif steps.dtype == TensorType.FLOAT16:
        largest = max(map(abs, steps.value_range), default=0.0) + max(
            map(abs, steps.mean), default=0
        )
        largest /= min(steps.std, default=1.0)
        if largest > _LARGEST_FLOAT16:
            cure = (
                f"values reach {largest:g} and may reach up to {_LARGEST_FLOAT16:g} in float16: "
                "choose a smaller range, or set dtype: float32"
            )
            yield _contradiction(f"{path}.value_range", steps.value_range, at, steps.dtype, cure)
