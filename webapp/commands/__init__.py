"""What is done to a server from its terminal."""
