"""The addresses of the site, one file for each page or thing that is asked for. No route imports another."""
