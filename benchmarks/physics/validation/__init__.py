"""Validation of the detectors on clips whose truth is known, before they judge anything."""
