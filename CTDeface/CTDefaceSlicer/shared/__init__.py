"""What both modules use: MRML nodes, views, the background process, hints; all that CTDefaceEval may import."""
