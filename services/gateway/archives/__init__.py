"""Archives that are sent while they are read: the same bytes each time, so that any range of them can be asked for."""
