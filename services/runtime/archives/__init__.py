"""ZIP archives: records, names, layout, checksums, and what goes into one. Knows neither jobs nor HTTP."""
