"""Options of the TinyHD networks."""

OUTPUTS = ("multi", "single")
"""A map for each of the 16 frames, or for the last one."""

WIDTHS = {"full": 1, "half": 2, "quarter": 4}
"""Widths, and the number that they divide the encoder's channels by."""

DECODERS = ("d1", "d2", "d3")
"""Kinds of decoders, in the usual order of the fusion."""

MAX_DECODERS = 8
