"""How fast the package is on a machine, measured on the functions that the other rooms use."""
