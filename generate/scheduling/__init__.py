"""Who is read, written and let in when: the engine's thread and its batches."""
