"""A synthetic head CT with its ground truth.

Stands in for a person's scan wherever one is needed and none may be used: ``ctdeface demo``, sample data, tests. The
head is modelled by signed distances (:mod:`.shape`), laid in a scanner (:mod:`.patient`), painted tissue by tissue
with partial volume (:mod:`.tissues`) and then scanned (:mod:`.scanner`).
"""

from .parameters import FIELDS_OF_VIEW, PhantomParameters
from .patient import Patient
from .scan import Phantom, make_phantom, paint_part
from .tissues import Label

__all__ = ["FIELDS_OF_VIEW", "Label", "Patient", "Phantom", "PhantomParameters", "make_phantom", "paint_part"]
