"""Measures: average precision, its errors, agreement of detectors, gradients, protocols."""
