"""Large files on their way from a browser to this server, in pieces that any cut connection may go on from."""
