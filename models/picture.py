"""Grey pictures to the scan encoder's input. NumPy only, shared by the live path and training."""

import numpy as np
from numpy.typing import NDArray

SIZE = 224


def to_square(grey: NDArray[np.floating]) -> NDArray[np.float32]:
    """f32 [224, 224] in 0..1 of a grey [H, W] in 0..1: aspect kept, centred, padded with black.

    Shrinks by area averaging (integer steps), then samples bilinearly.
    """
    height, width = grey.shape
    step = max(1, min(height, width) // SIZE)
    if step > 1:
        grey = grey[: height // step * step, : width // step * step]
        grey = grey.reshape(grey.shape[0] // step, step, grey.shape[1] // step, step).mean((1, 3))
        height, width = grey.shape
    scale = SIZE / max(height, width)
    rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
    y = np.clip((np.arange(rows) + 0.5) / scale - 0.5, 0, height - 1)
    x = np.clip((np.arange(columns) + 0.5) / scale - 0.5, 0, width - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    fy, fx = (y - y0)[:, None], (x - x0)[None]
    top = grey[y0][:, x0] * (1 - fx) + grey[y0][:, x1] * fx
    bottom = grey[y1][:, x0] * (1 - fx) + grey[y1][:, x1] * fx
    square = np.zeros((SIZE, SIZE), np.float32)
    first_row, first_column = (SIZE - rows) // 2, (SIZE - columns) // 2
    square[first_row : first_row + rows, first_column : first_column + columns] = top * (1 - fy) + bottom * fy
    return np.clip(square, 0.0, 1.0)
