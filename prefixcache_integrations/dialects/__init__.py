"""Floor 2: the wire formats. Bodies, usage and streams to canonical words and back, without loss."""
