"""``gaze``: the recorded gaze of several observers as maps, as an overlay, and as the ceiling of a model's scores."""
