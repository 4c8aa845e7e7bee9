"""Floor 1: the facts. One frozen row per model family; nothing here decides anything."""
