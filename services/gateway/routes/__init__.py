"""HTTP handlers, one file for each group of routes."""
