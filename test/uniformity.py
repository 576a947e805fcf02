"""Whether words look like random ones."""

import numpy as np


def chi_square(words: np.ndarray) -> float:
    """Return the chi-square statistic of the words' bytes over 256 bins: 255 on average for random ones."""
    counts = np.bincount(words.view(np.uint8), minlength=256)
    expected = words.nbytes / 256
    return float(((counts - expected) ** 2 / expected).sum())


def serial_correlation(words: np.ndarray, lag: int = 1) -> float:
    """Return the correlation of words with those ``lag`` further on, in standard deviations of random ones."""
    centred = words.astype(np.float64) - 2.0**31
    return float(np.corrcoef(centred[:-lag], centred[lag:])[0, 1]) * len(words) ** 0.5


def looks_random(words: np.ndarray) -> bool:
    """Say whether the words pass both; random ones fail once in 100,000 times."""
    return 160 < chi_square(words) < 380 and all(abs(serial_correlation(words, lag)) < 5 for lag in (1, 16))
