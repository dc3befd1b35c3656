"""Write HTML reports about videos and images.

``run`` collects the ``data`` and writes the ``page``, with ``plots`` and images (``shots``); ``summary`` is the page
about many files.
"""
