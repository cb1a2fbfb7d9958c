"""The contract of models/NAME: reading and checking it, finding, downloading and writing folders. No torch."""
