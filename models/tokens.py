"""Text to token ids, without torch: shared by training and serving."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

SENTENCES = 16
WORDS = 16


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    """[B, 16, 16] WordPiece ids of each text's first 256 pieces, 0 = padding; an empty text is one unknown piece."""
    ids = np.zeros((len(texts), SENTENCES * WORDS), np.int64)
    for row, encoding in enumerate(tokenizer.encode_batch(list(texts), add_special_tokens=False)):
        pieces = encoding.ids[: SENTENCES * WORDS] or [1]
        ids[row, : len(pieces)] = pieces
    return ids.reshape(len(texts), SENTENCES, WORDS)
