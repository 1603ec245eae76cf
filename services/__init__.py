"""The services of Reelworks and the runtime that they stand on."""
