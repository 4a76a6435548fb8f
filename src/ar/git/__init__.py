"""Objects, refs, notes and the checkout of one project's git repository."""
