"""The rows of a split as rows of another one, whose features and images they share."""

from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from jaxtyping import Float64, Int64


@dataclass(frozen=True, eq=False)
class RowMap:
    """The row of a bank that each row of a split is, and the view of it that copies show.

    Attributes:
        rows: of the bank.
        crops: in [0, 1), of each near copy: which training view of the image is its evaluation view, as a share of
            their number; below 0 for a row that is no copy. None where no row is one.
    """

    rows: Int64[np.ndarray, " n"]
    crops: Float64[np.ndarray, " n"] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def fingerprint(self) -> str:
        """Hash of both."""
        digest = sha256(self.rows.astype("<i8").tobytes())
        if self.crops is not None:
            digest.update(self.crops.astype("<f8").tobytes())
        return digest.hexdigest()

    def banked(
        self, rows: Int64[np.ndarray, "*batch"], views: Int64[np.ndarray, "*batch"], n_views: int
    ) -> tuple[Int64[np.ndarray, "*batch"], Int64[np.ndarray, "*batch"]]:
        """The rows and views of the bank that these are.

        View 0 of a near copy is a training view of its image; its training views are those of the image. With a single
        view a copy is exact.

        Args:
            rows: of the split.
            views: of each.
            n_views: number of views in the bank.

        >>> copied = RowMap(np.array([7, 7]), np.array([-1.0, 0.5]))
        >>> rows, views = copied.banked(np.array([0, 1, 1]), np.array([0, 0, 2]), n_views=5)
        >>> rows.tolist(), views.tolist()
        ([7, 7, 7], [0, 3, 2])
        """
        if self.crops is None or n_views == 1:
            return self.rows[rows], views
        crops = self.crops[rows]
        shown = 1 + (crops * (n_views - 1)).astype(np.int64)
        return self.rows[rows], np.where((views == 0) & (crops >= 0), shown, views)
