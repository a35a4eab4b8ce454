"""Container registries as DataFrames."""
