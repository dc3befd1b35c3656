"""Building blocks of the networks: encoders and decoders, one per file."""
