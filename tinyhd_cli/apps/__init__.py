"""Applications of saliency maps, named as their commands: crop, encode, report and live."""
