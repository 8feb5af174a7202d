"""A data set looked at as a whole: what is wrong or odd in it, what is in it, and its mending."""
