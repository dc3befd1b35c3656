"""Show the saliency of a camera or a stream: ``run`` reads, predicts, and draws; ``window`` shows frames."""
