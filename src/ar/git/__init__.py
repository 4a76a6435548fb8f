"""Objects, refs, notes and the working tree of one project's git repository, and what crosses to others."""
