"""What explains a result: the influence of each input, leaks, easy and hard stories."""
