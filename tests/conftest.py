"""What every test shares.

In CI, generated examples are the same every time: a verdict is of the change, not of luck. Linear
algebra takes one thread, as under the command line: the same digits on any number of cores.
"""

import contextlib
import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# submitit configures logging when it is imported, which closes the streams of handlers that are
# there by then: absl's, which comes with JAX, holds what pytest captures in. So it comes first.
with contextlib.suppress(ImportError):
    import submitit  # noqa: F401

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
