"""Files whose layers differ: what is faster in float, or on 4 channels, is made so."""
