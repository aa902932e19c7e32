"""Next to a PACS: images come in over the network, and go on defaced (needs pynetdicom)."""
