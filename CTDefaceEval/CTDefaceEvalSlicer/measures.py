"""What an evaluation measured, in a few lines: whose face it is, the bound of all attacks, and what it cost."""

from CTDefaceEvalLib.findings import BOUND, DEFACED
from CTDefaceEvalLib.recognition import SAME_PERSON
from slicer.i18n import tr as _


def measures(evaluation):
    """Lines of a list: whether each is as it should be (None: nobody can say) and its text.

    :param evaluation: a ``CTDefaceEvalLib.findings.Evaluation``.
    """
    for name, text in ((DEFACED, _("Recognition: likeness {range}")), (BOUND, _("Bound, region emptied: {range}"))):
        alike = evaluation.likeness.get(name)
        if alike is not None:
            figures = _("{value:.0%} ({low:.0%} to {high:.0%})").format(
                value=alike.value, low=alike.low, high=alike.high
            )
            yield alike.high < SAME_PERSON, text.format(range=figures)
    if evaluation.likeness and not evaluation.scale.is_kept:
        yield None, _("No gallery of people for {model}: the likeness is a hint").format(model=evaluation.recogniser)
    cost = evaluation.preservation
    if cost is None:
        return
    numbers = cost.numbers()
    touched = cost.intracranial_touched
    yield touched == 0, _("Brain untouched") if touched == 0 else _("Brain: {n} voxels changed").format(n=touched)
    shares = [(_("tissue"), numbers["tissue replaced"]), (_("bone"), numbers["bone replaced"])]
    listed = [
        _("{share:.0%} of the {what}").format(share=share, what=what) for what, share in shares if share is not None
    ]
    if listed:
        yield None, _("Cost: {listed} replaced").format(listed=_(", ").join(listed))
