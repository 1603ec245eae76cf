"""Figures, each with the command that makes it: `make bench`. Ratios and CPU seconds mean something on any machine."""
