"""The folders at the top of the bucket, and the films in them, as they lie there."""
