"""What training and serving share: where things lie, and how a digit is written as CSV.

A training row is `label,p0,...,p63`, a row to classify `p0,...,p63`; a pixel is 0 (white) to 16 (black).
"""

import os
from pathlib import Path

import numpy as np

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
MODEL = BASE / "model" / "model.joblib"
PIXELS = 64
BLACK = 16.0


def read_rows(lines, columns):
    """An array of `columns` numbers per line; ValueError with the number of the line that is wrong."""
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        fields = line.split(",")
        if len(fields) != columns:
            raise ValueError(f"line {number} has {len(fields)} columns, not {columns}")
        try:
            rows.append([float(field) for field in fields])
        except ValueError:
            raise ValueError(f"line {number} holds something that is not a number: {line.strip()[:40]}") from None
    if not rows:
        raise ValueError("there is no row")
    return np.array(rows)


def scaled(pixels):
    return pixels / BLACK
