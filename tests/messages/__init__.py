"""Texts of the app, and whether its catalogues have them all."""
