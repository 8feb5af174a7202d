"""Terms that compare the pyramids' maps: one method a file, a module with its adapters."""
