"""What a face detector found, drawn over a 3D view."""

import vtk

LAYER = 2
"""Of the renderers of the window: above the scene and the orientation marker of Slicer."""
COLOR = (1.0, 0.86, 0.1)
LINE_WIDTH = 2.0
CROSS_PIXELS = 4


class FaceMarks:
    """Box, landmarks and a caption over a view, in a renderer of their own, so that pictures can be had without them.

    :param window: the render window of the view. Positions are its pixels, counted from the lower left corner.

    Attributes
    ----------
    lines: of the box and the landmarks, vtkPolyData
    """

    def __init__(self, window):
        self._window = window
        self.lines = vtk.vtkPolyData()
        mapper = vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(self.lines)
        actor = vtk.vtkActor2D()
        actor.SetMapper(mapper)
        actor.GetProperty().SetColor(*COLOR)
        actor.GetProperty().SetLineWidth(LINE_WIDTH)
        self._caption = vtk.vtkTextActor()
        style = self._caption.GetTextProperty()
        style.SetColor(*COLOR)
        style.SetBold(True)
        style.SetShadow(True)
        style.SetVerticalJustificationToTop()
        self._renderer = vtk.vtkRenderer()
        self._renderer.SetLayer(LAYER)
        self._renderer.InteractiveOff()
        self._renderer.AddViewProp(actor)
        self._renderer.AddViewProp(self._caption)
        window.SetNumberOfLayers(max(window.GetNumberOfLayers(), LAYER + 1))
        window.AddRenderer(self._renderer)
        self.show("")

    def show(self, caption, box=(), landmarks=()):
        """Replace what is drawn; it is seen with the next rendering.

        :param box: x and y of its four corners.
        :param landmarks: x and y of each.
        """
        segments = list(zip(box, [*box[1:], *box[:1]]))
        for x, y in landmarks:
            segments.append(((x - CROSS_PIXELS, y), (x + CROSS_PIXELS, y)))
            segments.append(((x, y - CROSS_PIXELS), (x, y + CROSS_PIXELS)))
        points, lines = vtk.vtkPoints(), vtk.vtkCellArray()
        for ends in segments:
            lines.InsertNextCell(2)
            for x, y in ends:
                lines.InsertCellPoint(points.InsertNextPoint(x, y, 0.0))
        self.lines.SetPoints(points)
        self.lines.SetLines(lines)
        columns, rows = self._window.GetSize()
        self._caption.SetInput(caption)
        self._caption.GetTextProperty().SetFontSize(max(12, min(columns, rows) // 24))
        self._caption.SetPosition(10, rows - 10)

    def remove(self):
        self._window.RemoveRenderer(self._renderer)
