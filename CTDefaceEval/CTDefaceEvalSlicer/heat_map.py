"""A yaw × pitch heat map in the panel: in how many of the pictures from each side a face was found."""

import qt
from slicer.i18n import tr as _

NO_FACE, FACE = (245, 245, 245), (179, 38, 30)
CELLS_WITH_NUMBERS = 9
"""Up to that many columns there is room for a number in each cell."""
NARROW_STYLE = "QHeaderView::section { padding: 0px; font-size: 9px; }"


class HeatMap:
    """Shows the map in a QTableWidget.

    :param table: the widget.
    :param turn: called with yaw and pitch in degrees when a cell is clicked.
    """

    def __init__(self, table, turn):
        self._table, self._turn = table, turn
        self._yaws, self._pitches = [], []
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.horizontalHeader().setMinimumSectionSize(10)
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.connect("cellClicked(int,int)", self.onCellClicked)

    def show(self, faces):
        """Show what was found.

        :param faces: by yaw and pitch the pictures with a face, the pictures in all and the best score.
        """
        self._yaws = sorted({yaw for yaw, _pitch in faces})
        self._pitches = sorted({pitch for _yaw, pitch in faces}, reverse=True)
        table = self._table
        table.setColumnCount(len(self._yaws))
        table.setRowCount(len(self._pitches))
        isRoomy = len(self._yaws) <= CELLS_WITH_NUMBERS
        table.horizontalHeader().styleSheet = "" if isRoomy else NARROW_STYLE
        table.setHorizontalHeaderLabels([f"{yaw:g}" for yaw in self._yaws])
        table.setVerticalHeaderLabels([f"{pitch:g}" for pitch in self._pitches])
        for row, pitch in enumerate(self._pitches):
            for column, yaw in enumerate(self._yaws):
                found, pictures, best = faces[yaw, pitch]
                share = found / pictures
                item = qt.QTableWidgetItem(str(found) if isRoomy else "")
                item.setTextAlignment(qt.Qt.AlignCenter)
                item.setBackground(qt.QBrush(_color(share)))
                item.setForeground(qt.QBrush(qt.QColor("white" if share > 0.4 else "gray")))
                item.setToolTip(self._explain(yaw, pitch, found, pictures, best))
                table.setItem(row, column, item)
        table.updateGeometry()

    @staticmethod
    def _explain(yaw, pitch, found, pictures, best):
        text = _("Yaw {yaw:g}°, pitch {pitch:g}°: a face in {found} of {pictures} pictures").format(
            yaw=yaw, pitch=pitch, found=found, pictures=pictures
        )
        if found:
            text += _(", best score {best:.2f}").format(best=best)
        return text + _(". Click to turn the heads there.")

    def onCellClicked(self, row, column):
        self._turn(self._yaws[column], self._pitches[row])


def _color(share):
    return qt.QColor(*(round(no + (yes - no) * share) for no, yes in zip(NO_FACE, FACE)))
