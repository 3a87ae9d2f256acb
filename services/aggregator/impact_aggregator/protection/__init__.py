"""Protected metrics: published on a grid of closed blocks, without cells of few."""
