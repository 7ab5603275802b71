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

from activekd.errors import InputError, reason
from activekd.images.decoding import decode


@dataclass(frozen=True)
class Images:
    """RGB images of any size: end to end in one uint8 array, or decoded from their files on every read.

    A cache file is opened on the first read in a process, and each of its images is checked by its checksum on the
    first read in a process. Threads may read at the same time.

    Attributes:
        shapes: (height, width) of each image in pixels.
        source: the pixels; or the path of the cache file, which is memory-mapped and pickled as its path; or the image
            files, for a data set too large to store decoded.
        digest: hash of the content, computed while decoding.
        checksums: CRC-32 of each decoded image.
    """

    shapes: Int64[np.ndarray, "n 2"]
    source: UInt8[np.ndarray, " bytes"] | Path | tuple[Path, ...]
    digest: str | None = None
    checksums: UInt32[np.ndarray, " n"] | None = None

    @property
    def n_bytes(self) -> int:
        """Bytes of all decoded images."""
        return int(self.offsets[-1])

    @cached_property
    def offsets(self) -> Int64[np.ndarray, " _"]:
        """First byte of each image among the decoded images end to end, and the number of bytes."""
        return np.concatenate([[0], np.cumsum(3 * self.shapes.prod(axis=1))]).astype(np.int64)

    @cached_property
    def _pixels(self) -> np.ndarray:
        if isinstance(self.source, tuple):
            raise LookupError("these images are not cached in decoded form")
        if not isinstance(self.source, Path):
            return self.source
        # The first look at the file, with which later ones are compared, comes before its content.
        found = self._opened_as[0]
        if found != self.n_bytes:
            raise InputError(
                f"image cache {self.source}: {found:,} bytes; expected: {self.n_bytes:,}; remove the file, then run "
                f"again"
            )
        try:
            return np.memmap(self.source, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as fault:
            raise InputError(
                f"image cache {self.source}: {fault}; expected: a file that stays in place while it is read; run again"
            ) from fault

    @cached_property
    def _opened_as(self) -> tuple[int, int, int]:
        return self._status()

    def _status(self) -> tuple[int, int, int]:
        """Size, modification time and number of the cache file."""
        assert isinstance(self.source, Path)
        try:
            found = self.source.stat()
        except OSError as fault:
            raise InputError(
                f"image cache {self.source}: {reason(fault)}; expected: a file that stays in place while it is read; "
                f"run again"
            ) from fault
        return found.st_size, found.st_mtime_ns, found.st_ino

    def check_unchanged(self) -> None:
        """Check that the cache file is the one that was opened, unmodified; cheap enough for every batch.

        Raises:
            InputError: the file was rewritten, cut, replaced or removed since its first read in this process.
        """
        if isinstance(self.source, Path) and self._status() != self._opened_as:
            raise InputError(
                f"image cache {self.source} changed while it was read; expected: a file that nothing writes during a "
                f"run; run again"
            )

    @cached_property
    def _checked(self) -> np.ndarray:
        return np.zeros(len(self), dtype=bool)

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
        pixels = self._pixels[self.offsets[row] : self.offsets[row + 1]]
        if not self._checked[row]:
            if not self._is_whole(row, pixels):
                raise InputError(
                    f"image cache {self.source} is damaged at image {row}; expected: remove the file, then run again"
                )
            self._checked[row] = True
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
