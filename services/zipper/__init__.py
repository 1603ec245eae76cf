"""The zipper: see README.md in this folder."""
