"""Where the head lies in a CT, and its face as a map: everything that is measured before anything is removed."""
