"""What every request passes, whatever page it asks for. Imports nothing of runs, views or routes."""
