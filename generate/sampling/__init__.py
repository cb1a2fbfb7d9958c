"""Options, noise, filters, and what is told of a token. Only sampler, noise and statistics bring torch."""
