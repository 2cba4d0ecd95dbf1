"""Pruning: scores, thresholds, masks, folding, physical removal, and the stage that does it all."""
