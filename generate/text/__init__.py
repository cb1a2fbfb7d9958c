"""Between text, bytes and token ids. No torch."""
