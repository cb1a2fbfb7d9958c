"""What crosses the seam between an engine and whoever asks it. No torch."""
