"""Tracking one target with event cameras: models, training, the tracker, scores."""
