"""An order of regions in which those with similar filters are neighbours."""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
from scipy.spatial.distance import squareform

__all__ = ["similarity_order"]


def similarity_order(cosines: Sequence[Sequence[float | None]]) -> list[int]:
    """Return the regions in the order of the leaves of an average-linkage tree over 1 - cosine.

    Args:
        cosines: between filters, `[M, M]`; an unknown one counts as 0.
    """
    if len(cosines) < 3:
        return list(range(len(cosines)))
    distances = 1 - np.array([[0.0 if c is None else c for c in row] for row in cosines])
    np.fill_diagonal(distances, 0)
    condensed = squareform((distances + distances.T) / 2, checks=False).clip(min=0)
    tree = optimal_leaf_ordering(linkage(condensed, "average"), condensed)
    order: list[int] = leaves_list(tree).tolist()
    return order
