"""Floor 4: conversations with the outside, written as generators that decide and never perform."""
