"""A person's own text and `models/NAME` in, another `models/NAME` out: fine-tuning, and training from nothing."""
