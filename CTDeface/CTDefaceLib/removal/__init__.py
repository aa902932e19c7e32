"""From a face mask to what takes its place: the region that is replaced, and what fills it."""
