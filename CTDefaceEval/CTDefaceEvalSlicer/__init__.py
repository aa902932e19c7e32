"""What the CTDefaceEval module shows in 3D Slicer: heads, scores, maps, tables and plots."""
