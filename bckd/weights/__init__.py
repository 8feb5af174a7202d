"""Files of weights: which are published and where, how they get here, and how they are read."""
