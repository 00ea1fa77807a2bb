"""Equalization of the gray levels of one channel of 8 bits, equal to OpenCV's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]

_LEVELS = 256


def equalize_histogram(channel: Bytes) -> Bytes:
    """Returns the channel as `cv2.equalizeHist` does: its levels become equally frequent."""
    histogram = np.bincount(channel.ravel(), minlength=_LEVELS)
    darkest = int(np.flatnonzero(histogram)[0])
    brighter = channel.size - int(histogram[darkest])
    if brighter == 0:
        return channel
    counts = np.cumsum(histogram) - histogram[darkest]
    scale = np.float32(_LEVELS - 1) / np.float32(brighter)
    return _to_bytes(counts.astype(np.float32) * scale)[channel]


def equalize_clahe(channel: Bytes, clip: float, tiles: int) -> Bytes:
    """Returns the channel as `cv2.createCLAHE(clip, (tiles, tiles))` does.

    Each of tiles x tiles rectangles has a table of levels, from its histogram with bins cut off at
    `clip` times their mean; a pixel interpolates between the tables of the four nearest.
    """
    height, width = channel.shape
    tables, tile_height, tile_width = _tables(channel, clip, tiles)
    left, right, across = _nearest_tiles(width, tile_width, tiles)
    top, bottom, down = _nearest_tiles(height, tile_height, tiles)
    out = np.empty_like(channel)
    # Rows between the same two rows of tiles have the same tables.
    bands = np.flatnonzero(np.diff(top + bottom, prepend=-1))
    for start, stop in zip(bands, [*bands[1:], height], strict=True):
        levels = channel[start:stop].astype(np.intp)
        west, east = levels + left * _LEVELS, levels + right * _LEVELS
        upper, lower = (
            tables[row].take(west) * (1 - across) + tables[row].take(east) * across
            for row in (top[start], bottom[start])
        )
        share = down[start:stop, np.newaxis]
        out[start:stop] = _to_bytes(upper * (1 - share) + lower * share)
    return out


def _tables(channel: Bytes, clip: float, tiles: int) -> tuple[npt.NDArray[np.float32], int, int]:
    """Returns the tiles' tables (tiles, tiles * 256), and height and width of a tile."""
    height, width = channel.shape
    if height % tiles or width % tiles:  # OpenCV then extends both sides, by 1 to `tiles` pixels
        missing = ((0, tiles - height % tiles), (0, tiles - width % tiles))
        channel = np.pad(channel, missing, mode="reflect")
    tile_height, tile_width = channel.shape[0] // tiles, channel.shape[1] // tiles
    area = tile_height * tile_width
    rows = channel.reshape(tiles, tile_height, tiles, tile_width).swapaxes(1, 2)
    histograms = np.stack(
        [np.bincount(tile.ravel(), minlength=_LEVELS) for row in rows for tile in row]
    )
    clipped = _clip(histograms, max(1, int(clip * area / _LEVELS)))
    scale = np.float32(_LEVELS - 1) / np.float32(area)
    tables = np.rint(np.cumsum(clipped, axis=1).astype(np.float32) * scale).clip(0, 255)
    return tables.reshape(tiles, -1), tile_height, tile_width


def _clip(histograms: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.int64]:
    """Cuts bins off at the limit and gives the excess to all bins; what is left to every n-th."""
    clipped = np.minimum(histograms, limit)
    each, left = np.divmod(histograms.sum(axis=1) - clipped.sum(axis=1), _LEVELS)
    clipped += each[:, np.newaxis]
    step = _LEVELS // np.maximum(left, 1)
    position, rest = np.divmod(np.arange(_LEVELS), step[:, np.newaxis])
    clipped += (rest == 0) & (position < left[:, np.newaxis])
    return clipped


def _nearest_tiles(
    side: int, tile: int, tiles: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.float32]]:
    """Returns for each pixel along a side the tiles before and after it, and the latter's share."""
    position = np.arange(side, dtype=np.float32) * (np.float32(1) / np.float32(tile)) - np.float32(
        0.5
    )
    before = np.floor(position)
    first = before.astype(np.intp)
    return first.clip(0), (first + 1).clip(max=tiles - 1), position - before


def _to_bytes(values: npt.NDArray[np.float32]) -> Bytes:
    return np.rint(values).clip(0, _LEVELS - 1).astype(np.uint8)
