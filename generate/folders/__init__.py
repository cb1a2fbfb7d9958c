"""The contract of models/NAME: reading and checking it, finding, placing and downloading folders. No torch."""
