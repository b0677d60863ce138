"""Settings of the whole test run."""

from __future__ import annotations

import os
import tempfile

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may need the network
# Two workers share two cores. With two threads each, small steps wait for each other longer than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["PREP_MODELS"] = tempfile.mkdtemp(prefix="prep-test-models-")  # never the user's own

# The machine may be busy: a slow example is no failure. Derandomized: the same run everywhere.
settings.register_profile("prep", deadline=None, derandomize=True)
settings.load_profile("prep")
