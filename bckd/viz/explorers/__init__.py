"""Interactive explorers: widgets whose arithmetic runs in the browser, so they need no kernel."""
