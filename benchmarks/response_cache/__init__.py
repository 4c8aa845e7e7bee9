"""What a hit costs."""
