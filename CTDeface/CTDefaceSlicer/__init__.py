"""What the CTDeface and CTDefaceEval modules share of 3D Slicer: nodes, views and the background process."""
