"""Floor 7: LlamaIndex."""
