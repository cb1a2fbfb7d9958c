"""What a page shows: texts, sentences and pictures of runs. Knows neither requests nor addresses of pages."""
