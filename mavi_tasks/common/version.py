"""The version of mavi: in every run's row, and what `mavi --version` prints."""

__version__ = "0.1.0"
