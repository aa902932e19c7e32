"""What the steps of the panel say below their widgets; the colors are legible on a bright and on a dark panel."""

BAD, GOOD = "#d0483a", "#3d8b48"


def say(label, text, error=""):
    """Show a hint, or in its place the error of the last try of that step; with neither the label is hidden."""
    label.text = error or text
    label.styleSheet = f"color: {BAD};" if error else ""
    label.visible = bool(label.text)
