"""DICOM series in, DICOM series out: files, trees, stacks, headers, pseudonyms, references, writing."""
