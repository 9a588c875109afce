"""Readers, cohorts, recipes, the training loop and evaluation. Imports streaming and models; nothing imports it."""
