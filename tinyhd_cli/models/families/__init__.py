"""Model families: each package contains its networks and everything specific to them, as one ``FAMILY``."""
