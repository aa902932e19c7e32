"""Measure whether a face can be found, recognised or recovered in a CT: the library below CTDefaceEval."""
