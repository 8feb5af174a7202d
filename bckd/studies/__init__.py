"""Studies: declared grids of training runs that docs/evidence.md and the notebooks quote."""
