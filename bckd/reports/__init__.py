"""What a run shows of itself while it trains: a page for a browser, pictures for TensorBoard."""
