"""The campaign's model: what every run says of settings that were not run, and which to run next."""

import os

# OpenBLAS asks once, when it is loaded, how many threads to start. The cores are for training: a model that
# waits for threads which get no core is slower than one without. What is started later is not to inherit it.
_THREADS = "OPENBLAS_NUM_THREADS"
if _THREADS not in os.environ:
    os.environ[_THREADS] = "1"
    import numpy.linalg  # noqa: F401
    import scipy.linalg  # noqa: F401

    del os.environ[_THREADS]
