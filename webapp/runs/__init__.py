"""What a run is and who keeps it: its tables and logs, who writes it, what follows from it, and its end."""
