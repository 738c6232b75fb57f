"""Frame-level speech classification, from the contest's files to the contest's CSV."""

__version__ = "0.1.0"
