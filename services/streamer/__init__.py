"""The streamer: see README.md in this folder."""
