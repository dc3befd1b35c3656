"""Model families: each module holds its networks and everything that is particular to them, as one ``FAMILY``."""
