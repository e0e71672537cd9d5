"""Kernels, each behind one door that picks the implementation."""
