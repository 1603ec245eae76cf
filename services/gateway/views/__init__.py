"""What the log says, folded into SQLite, and its projections as the API shows them."""
