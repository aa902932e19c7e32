"""A table in which things are ticked: a tick and a name in each row, and what there is to say of it."""

from dataclasses import dataclass
from typing import Any

import qt

from . import hints


@dataclass(frozen=True)
class Row:
    """Attributes
    ----------
    key: what the row stands for
    name: text beside the tick
    isTicked: whether it is ticked; None where it cannot be
    remark: text in the second column
    isGood: whether the remark is green (True), red (False) or neither (None)
    """

    key: Any
    name: str
    isTicked: bool | None
    remark: str = ""
    isGood: bool | None = None


class CheckTable:
    """Shows rows in a QTableWidget.

    :param table: the widget.
    :param titles: of its two columns.
    :param changed: called with the key of a row and whether it is ticked, when the user has clicked.
    """

    def __init__(self, table, titles, changed):
        self._table, self._changed = table, changed
        self._rows = []
        table.setColumnCount(2)
        table.setHorizontalHeaderLabels(titles)
        table.verticalHeader().hide()
        table.verticalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.Stretch)
        table.connect("itemChanged(QTableWidgetItem*)", self.onItemChanged)

    def show(self, rows):
        """Show these rows, if they are not shown yet."""
        if rows == self._rows:
            return
        self._rows, table = list(rows), self._table
        wasBlocked = table.blockSignals(True)
        table.setRowCount(len(rows))
        for number, row in enumerate(rows):
            name, remark = self._item(number, 0, row.name), self._item(number, 1, row.remark)
            name.setData(qt.Qt.CheckStateRole, None)
            if row.isTicked is not None:
                name.setCheckState(qt.Qt.Checked if row.isTicked else qt.Qt.Unchecked)
            remark.setForeground(qt.QBrush(self._color(row.isGood)))
            for item in (name, remark):
                item.setToolTip(f"{row.name}\n{row.remark}".strip())
        table.blockSignals(wasBlocked)
        self.fit()

    def fit(self):
        """Let the table be as high as its rows are, once it has its width and the rows their lines."""
        qt.QTimer.singleShot(0, self._table.resizeRowsToContents)
        qt.QTimer.singleShot(0, self._table.updateGeometry)

    def _item(self, row, column, text):
        """The item of a cell, which stays the same while the table is shown: it may be the one that was clicked."""
        item = self._table.item(row, column)
        if item is None:
            item = qt.QTableWidgetItem()
            self._table.setItem(row, column, item)
        item.setText(text)
        return item

    def _color(self, isGood):
        if isGood is None:
            return self._table.palette.color(qt.QPalette.Text)
        return qt.QColor(hints.goodColor(self._table) if isGood else hints.errorColor(self._table))

    def onItemChanged(self, item):
        row = self._rows[item.row()]
        isTicked = self._table.item(item.row(), 0).checkState() == qt.Qt.Checked
        if item.column() == 0 and row.isTicked is not None and isTicked != row.isTicked:
            self._changed(row.key, isTicked)
