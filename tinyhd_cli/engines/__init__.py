"""Programs that run the networks faster than PyTorch does: the graph they are given, and one file for each."""
