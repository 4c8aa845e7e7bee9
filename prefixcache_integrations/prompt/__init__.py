"""Floor 2: reasoning on one prompt. Segments, identities, layout and breakpoints; pure and deterministic."""
