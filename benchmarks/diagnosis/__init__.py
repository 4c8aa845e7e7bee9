"""Faults put into conversations on purpose, and whether the diagnosis names each of them."""
