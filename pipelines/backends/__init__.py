"""Renderers that the engines drive: each starts once and draws many."""
