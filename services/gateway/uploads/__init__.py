"""From the bytes and names that clients send to objects and requests."""
