"""The page of ``tinyhd app``: drop videos and images, see where people look, download the results.

``server`` puts the parts together; ``options`` has the limits; ``guard`` refuses requests of other pages; ``uploads``,
``jobs`` and ``results`` are the way of a file through the program; ``workspace`` holds the files and removes them;
``page`` has the HTML, CSS and JavaScript. Gradio gives the server and the queue.
"""
