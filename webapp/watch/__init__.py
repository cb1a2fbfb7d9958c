"""Whether the server is well: numbers, how they went of late, room on the disk, and what is logged."""
