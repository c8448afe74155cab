"""Training: the weighted trainer that only reads the data set, and small models made on the spot."""
