"""Names of alignments and their landmark templates; imports nothing, so that help is quick."""

TEMPLATES: dict[str, tuple[int, tuple[tuple[float, float], ...]]] = {
    # Deng et al. 2019, arXiv 1801.07698, and the code released with it.
    "arcface-112": (
        112,
        ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041)),
    ),
    # Medians of the face finder's landmarks over chips that dlib itself cut.
    "dlib-150": (
        150,
        ((47.268, 45.200), (100.953, 45.579), (74.518, 78.638), (50.586, 105.188), (98.770, 106.967)),
    ),
}
"""Where the landmarks belong in a square chip of the size in the name: left eye, right eye, nose, left and right
corner of the mouth as (x, y), "left" as seen in the picture, pixel centres at whole numbers."""

ALIGNMENTS = (*TEMPLATES, "mtcnn-160", "center", "none")
"""How a chip is cut. A template: by the landmarks, with a similarity. ``mtcnn-160``: the face's box, stretched to
the chip, as FaceNet's users cut it. ``center``: around the face's box and half as large again, in the chip's
proportions; of a crop, its largest centred part, as CLIP's users cut it. ``none``: the whole photo, stretched."""
