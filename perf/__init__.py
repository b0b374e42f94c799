"""Speed, measured: one script a goal, both sides in one process, on one thread."""

import os

# Before NumPy or torch is imported, as they read it then: threads that wait for each other count
# as processor time, so that what two of them take says nothing about one.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
