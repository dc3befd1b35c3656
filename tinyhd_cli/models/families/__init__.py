"""Model families: one file each, holding the network and everything that is particular to it."""
