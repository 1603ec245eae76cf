"""The indexer: see README.md in this folder."""
