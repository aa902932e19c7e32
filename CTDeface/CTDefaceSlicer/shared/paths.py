"""Path fields of a panel."""


def follow(lineEdit, function):
    """Call ``function(path)`` whenever the path in a field changes, also when it is emptied.

    ``currentPathChanged`` alone is silent about a path that the field does not accept, and so about an empty one.
    """
    lineEdit.connect("currentPathChanged(QString)", function)
    lineEdit.connect("validInputChanged(bool)", lambda isValid: None if isValid else function(lineEdit.currentPath))
