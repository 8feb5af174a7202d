"""Pure drawing functions: arrays in, matplotlib figures out."""
