"""Where a dataset lies, whatever names it."""

import os
from typing import Any


def location_of(dataset: Any) -> str:
    """The folder or s3:// URL of a dataset, given as such or as the result of a run."""
    location: str = dataset.output if hasattr(dataset, "output") else os.fspath(dataset)
    return location
