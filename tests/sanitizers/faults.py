"""Faults on purpose, in the native module: a sanitizer that ends this quietly sees nothing in the tests either.

python faults.py overflow | race
"""

import sys
import threading

import torch

from saccade import _native

x, y = torch.zeros(64, 256), torch.zeros(32, 128)


def pool(rows: int) -> None:
    _native.pool(x.data_ptr(), y.data_ptr(), rows, 256, 1, 2, False, 1)


if sys.argv[1] == "overflow":
    pool(33)
else:
    threads = [threading.Thread(target=lambda: [pool(32) for _ in range(50)]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
