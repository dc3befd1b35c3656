"""Measurements that are printed, never asserted: machines differ and are shared."""
