"""What explains a result: the influence of each input, and leaks."""
