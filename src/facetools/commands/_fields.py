"""Fields of records that several commands share, as the man pages describe them."""

FACE = {
    "face": "Number of the face in its photo, from 0, largest first; null where there is none.",
    "box": "x0, y0, x1, y1 in photo pixels, between pixels: the photo is 0, 0, width, height.",
    "confidence": "How sure the finder is, 0 to 1; null for a crop and for a face added by hand.",
    "landmarks": "Left eye, right eye, nose, left and right corner of the mouth, as x, y in photo pixels.",
}

PROBLEM = {
    "reason": "Why there is no number.",
    "error": "What went wrong with this input: kind and message.",
}
