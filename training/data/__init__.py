"""Where training clips come from and in what order."""
