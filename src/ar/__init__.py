"""Autonomous research on git and DVC."""
