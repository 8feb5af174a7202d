"""Studies: declared grids of training runs whose results the notebooks and the README quote."""
