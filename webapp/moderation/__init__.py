"""What whoever runs the server does about what others write: takes it down, hears of it, keeps somebody out for a time."""
