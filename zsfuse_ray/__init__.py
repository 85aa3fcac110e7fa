"""Emotion labels with honest probabilities for archives of speech: ZS-Fuse on Ray."""

__version__ = "0.1.0"
