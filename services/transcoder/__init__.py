"""Makes a film playable: probe, plan, encode in chunks, compose."""
