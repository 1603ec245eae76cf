"""How a film's stream reaches players: which objects may be asked for, playlists from memory, segments from the store."""
