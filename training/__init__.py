"""Training: a linear script and its peers."""
