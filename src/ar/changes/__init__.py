"""A change that somebody proposes, checked and made into a tree."""
