"""LlamaIndex with prompt layout and a response cache, over the documents of this repository."""
