"""Encode a video with better quality where people look.

``run`` encodes and compares; ``offsets`` decides the quantizer of each block; ``quality`` measures; ``plot`` draws
curves of size and quality; ``roi_file`` writes region maps for other encoders, in the formats of ``roi_formats``.
"""
