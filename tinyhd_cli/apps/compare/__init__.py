"""Compare versions of a design or a video.

``run`` makes the comparison from the ``areas`` of each version; ``order`` predicts in which order they are looked at;
``conditions`` are checks for CI; ``results``, ``outputs`` and ``plot`` are the forms of the result.
"""
