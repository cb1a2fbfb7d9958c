"""Engines behind an address: vLLM, or another Rubric, one or many of them. No torch."""
