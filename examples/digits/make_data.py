"""Write scikit-learn's digits as train.csv, to upload as the `training` channel: python make_data.py [FILE]"""

import sys

import numpy as np
from sklearn.datasets import load_digits


def main():
    target = sys.argv[1] if len(sys.argv) > 1 else "train.csv"
    digits = load_digits()
    table = np.column_stack([digits.target, digits.data]).astype(int)
    np.savetxt(target, table, fmt="%d", delimiter=",")
    print(f"{target}: {len(table)} rows of label and {digits.data.shape[1]} pixels")


if __name__ == "__main__":
    main()
