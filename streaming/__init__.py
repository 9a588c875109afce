"""The live path: from a fetched batch to alerts. Pure core, thin edges; see pipeline.py first."""
