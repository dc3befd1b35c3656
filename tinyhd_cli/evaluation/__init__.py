"""Scoring saliency maps against a dataset: its frames, the metrics, tables. Nothing here prints."""
