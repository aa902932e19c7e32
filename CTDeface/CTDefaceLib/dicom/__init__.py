"""DICOM series in, DICOM series out: reading, stacking, headers, pseudonyms, references, writing."""
