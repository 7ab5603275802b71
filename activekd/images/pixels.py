"""RGB images of any size: one uint8 array, in memory or memory-mapped, or files decoded on every read."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from activekd.errors import InputError
from activekd.images.decoding import decode


@dataclass(frozen=True)
class Images:
    """RGB images of any size: end to end in one uint8 array, or decoded from their files on every read.

    Attributes:
        shapes: (height, width) of each image in pixels.
        source: the pixels; or the path of the cache file, which is memory-mapped on the first read and pickled as its
            path; or the image files, for a data set too large to store decoded.
        digest: hash of the content, computed while decoding.
        checksums: CRC-32 of each decoded image, checked on every read.
    """

    shapes: Int64[np.ndarray, "n 2"]
    source: UInt8[np.ndarray, " bytes"] | Path | tuple[Path, ...]
    digest: str | None = None
    checksums: UInt32[np.ndarray, " n"] | None = None

    @cached_property
    def _pixels(self) -> np.ndarray:
        if isinstance(self.source, tuple):
            raise LookupError("these images are not cached in decoded form")
        if not isinstance(self.source, Path):
            return self.source
        try:
            return np.memmap(self.source, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as fault:
            raise InputError(
                f"image cache {self.source}: {fault}; expected: a file that stays in place while it is read; run again"
            ) from fault

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum(3 * self.shapes.prod(axis=1))])

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        height, width = self.shapes[row]
        if isinstance(self.source, tuple):
            image = decode(self.source[row], int(min(height, width)))
            if image.shape[:2] != (height, width) or not self._is_whole(row, image):
                raise InputError(
                    f"{self.source[row]}: other pixels than when it was checked; expected: unchanged files and one "
                    f"version of Pillow on all nodes; run again"
                )
            return image
        pixels = self._pixels[self._offsets[row] : self._offsets[row + 1]]
        if not self._is_whole(row, pixels):
            raise InputError(
                f"image cache {self.source} is damaged at image {row}; expected: remove the file, then run again"
            )
        return pixels.reshape(height, width, 3)

    def _is_whole(self, row: int, pixels: np.ndarray) -> bool:
        return self.checksums is None or zlib.crc32(pixels.data) == int(self.checksums[row])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all sizes and pixels."""
        return self.digest or _digest(self.shapes, [self._pixels])


def _digest(shapes: np.ndarray, blocks: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(shapes.astype("<i8").tobytes())
    for block in blocks:
        digest.update(block.data)
    return digest.hexdigest()


def from_grey(images: UInt8[np.ndarray, "n height width"]) -> Images:
    """Grey images of one size as RGB, their values repeated over the channels."""
    n, height, width = images.shape
    shapes = np.tile(np.array([[height, width]], dtype=np.int64), (n, 1))
    return Images(shapes, np.repeat(images.reshape(-1), 3))
