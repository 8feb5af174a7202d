"""Distillation of the pyramid's maps: one method a file, each a module with adapters."""
