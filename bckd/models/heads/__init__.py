"""The four families: one file a head."""
