"""The coordinator: knows every job, decides everything. See README.md."""
