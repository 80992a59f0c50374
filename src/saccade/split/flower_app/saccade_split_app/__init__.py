"""What a Flower run loads; see saccade.split.flower."""
