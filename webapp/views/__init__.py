"""What a page shows: the texts, sentences and pictures of runs."""
