"""Vocabulary that every layer shares. Imports the standard library only."""
