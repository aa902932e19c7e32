"""Synthetic heads for acceptance: people, poses, fields of view, grids and artefacts, all with the face in view."""

from CTDefaceLib.phantom import PhantomParameters

CASES = {
    "frontal": PhantomParameters(person=0),
    "brain_fov": PhantomParameters(person=1, field_of_view="upper_lip", spacing=(0.96, 0.96, 1.5), pitch=-6),
    "cut_at_orbits": PhantomParameters(person=2, field_of_view="orbits", matrix=(384, 384), spacing=(0.6, 0.6, 2.0)),
    "no_vertex": PhantomParameters(person=3, field_of_view="no_vertex", yaw=-8, padding=-1024),
    "neck": PhantomParameters(person=4, field_of_view="neck", matrix=(320, 320), spacing=(1.2, 1.2, 2.0)),
    "turned_left": PhantomParameters(person=5, yaw=30, holder=False),
    "turned_right": PhantomParameters(person=6, yaw=-26, pitch=10),
    "chin_up": PhantomParameters(person=7, pitch=30, spacing=(1.1, 1.1, 1.0)),
    "chin_down": PhantomParameters(person=8, pitch=-28, roll=5),
    "leaning": PhantomParameters(person=9, roll=-30),
    "all_at_once": PhantomParameters(person=10, yaw=20, pitch=-16, roll=18, field_of_view="neck", spacing=(1, 1, 1.6)),
    "thick_slices": PhantomParameters(person=11, matrix=(448, 448), spacing=(0.55, 0.55, 6.0), noise=5),
    "thin_slices": PhantomParameters(
        person=12, field_of_view="upper_lip", matrix=(288, 288), spacing=(0.85, 0.85, 0.4)
    ),
    "metal": PhantomParameters(person=13, metal=1.0, yaw=6, spacing=(1.0, 1.0, 1.25)),
    "open_mouth_tube": PhantomParameters(person=14, jaw_open=10, tube=True, field_of_view="neck", pitch=12),
    "craniectomy": PhantomParameters(person=15, craniectomy=True, spacing=(0.9, 0.9, 2.5)),
    "child": PhantomParameters(person=16, child=True, matrix=(256, 256), spacing=(0.85, 0.85, 1.0)),
    "child_brain_fov": PhantomParameters(person=17, child=True, field_of_view="upper_lip", yaw=-15, roll=10),
    "contrast_noisy": PhantomParameters(person=18, contrast=True, noise=30, blur=0.7, field_of_view="neck"),
    "near_the_edge": PhantomParameters(person=19, position=(28, -12), padding=-2048, roll=6, spacing=(1, 1, 3)),
}
