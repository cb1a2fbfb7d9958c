"""The forward pass in int8 on a CPU, as one compiled function."""
