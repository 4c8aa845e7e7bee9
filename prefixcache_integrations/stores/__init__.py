"""Floor 5: where answers are kept. One contract, one module per kind of store."""
