"""From a video to saliency maps, and from these to files."""
