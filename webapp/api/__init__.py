"""OpenAI's completions over the same engine: what may be asked, what is answered, and who may ask."""
