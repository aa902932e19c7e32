"""One face for all series of a patient: what was found in one of them takes the face of all."""
