"""Inputs, networks and servers that several tests share."""
