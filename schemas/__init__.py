"""The contract between Reelworks and the systems around it: events, topics and the envelope that carries them."""
