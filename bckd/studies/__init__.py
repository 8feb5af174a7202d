"""Studies: declared grids of training runs that notebooks/evidence.md and the notebooks quote."""
