"""Scripts of others that the pages bring along: pinned in package.json and its lock, copied by `python -m services.gateway.vendor`."""
