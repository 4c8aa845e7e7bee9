"""Floor 3: reasoning on history. What calls cost, and what a provider's cache would have done."""
