"""What is brought and taught: conversions and trainings, each in a process of its own, one after the other."""
