"""Latent semantic analysis of the training notes: the vectors of the note encoder's bag of pieces.

Deerwester et al. 1990: the right singular vectors of the notes' tf-idf matrix, each piece's scaled by its inverse
document frequency, so that the bag's direction is the note's place in that space. No label is looked at.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from models.text import Bag


def fill(bag: Bag, ids: NDArray[np.int64], seed: int = 0) -> None:
    """Sets the bag's vectors from token ids [texts, S, W] of the training notes; padding and unknown stay zero."""
    from scipy.sparse import csr_matrix
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    vocabulary, size = bag.pieces.weight.shape
    flat = ids.reshape(len(ids), -1)
    rows = np.repeat(np.arange(len(ids)), flat.shape[1])
    counts = csr_matrix((np.ones(flat.size), (rows, flat.ravel())), shape=(len(ids), vocabulary))
    counts.sum_duplicates()
    idf = np.log((1 + len(ids)) / (1 + np.bincount(counts.indices, minlength=vocabulary))) + 1
    idf[:2] = 0  # padding, unknown
    counts.data = np.log1p(counts.data)
    weighted = normalize(counts.multiply(idf).tocsr())
    rank = min(size, min(weighted.shape) - 1)
    found = TruncatedSVD(rank, random_state=seed).fit(weighted).components_  # [rank, vocabulary]
    vectors = np.zeros((vocabulary, size), np.float32)
    vectors[:, :rank] = (found * idf).T
    with torch.no_grad():
        bag.pieces.weight.copy_(torch.from_numpy(vectors))
