"""GPT-2's forward pass, and where keys and values lie."""
