"""Detectors side by side on one data set: run once, taken apart, reported (`bckd report`)."""
