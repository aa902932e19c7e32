"""What the steps of a panel share."""

import slicer
from CTDefaceLib.errors import CTDefaceError


class StepPanel:
    """A step of a panel: its widgets, and what they do.

    :param panel: the :class:`.task_panel.TaskPanel`; tasks, choices and the other steps are reached through it.
    """

    def __init__(self, panel):
        self.panel, self.ui, self.logic = panel, panel.ui, panel.logic
        self.error = ""
        """What went wrong at the last try of what is no task, in one sentence."""

    @property
    def parameters(self):
        """The parameter node, or None while a scene is closed or read."""
        return self.panel.parameterNode

    def attempt(self, action, failed, waitCursor=False):
        """Do what may end in a sentence, which the step shows then.

        :param failed: what to show above an error that nobody expected.
        """
        self.error = ""
        with slicer.util.tryWithErrorDisplay(failed, waitCursor=waitCursor):
            try:
                action()
            except CTDefaceError as error:
                self.error = str(error)
        self.panel.updateGUI()
