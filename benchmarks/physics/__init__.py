"""The physics suite: detectors that are validated before they judge."""
