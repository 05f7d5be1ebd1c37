"""What the man pages say besides the options: the fields of each command's records, and examples."""

from _toolio.manual import Page

_FACE = {
    "face": "Number of the face in its photo, from 0, largest first; null where there is none.",
    "box": "x0, y0, x1, y1 in photo pixels, between pixels: the photo is 0, 0, width, height.",
    "confidence": "How sure the finder is, 0 to 1.",
    "landmarks": "Left eye, right eye, nose, left and right corner of the mouth, as x, y in photo pixels.",
}
_PROBLEM = {
    "reason": "Why there is no number.",
    "error": "What went wrong with this input: kind and message.",
}

PAGES = {
    "detect": Page(
        fields={
            "score": "0 (clean) to 1 (cloaked); null where there is no face.",
            "label": "cloaked or clean.",
            "threshold": "Scores from here on are labelled cloaked.",
            "path": "The photo; archive.tar/member in an archive.",
            "relative": "Where the photo lies below the input.",
            "model": "The detector: its name and the beginning of its sha256.",
            **_FACE,
            **_PROBLEM,
        },
        examples=(
            ("facetools detect --in photos/ > scores.jsonl", "Score every face below a folder."),
            (
                "find photos -name '*.jpg' -print0 | facetools detect -0 --in - | sort -r | head",
                "The ten that look most cloaked.",
            ),
            ("facetools detect --in upload.jpg --fail-on-detection > /dev/null", "Exit 4 if a photo is cloaked."),
        ),
        exit_status=(
            "0 all well, 1 failed, 2 usage, 3 some inputs failed (their records say which), 4 a face is cloaked and "
            "--fail-on-detection is given (3 comes before 4), 130 interrupted."
        ),
    ),
    "perturb": Page(
        fields={
            "moved": "Cosine distance between the clean and the cloaked face's embedding, 0 to 2, on the saved file.",
            "path": "The cloaked photo; null where none was written.",
            "relative": "Where it lies below the output folder.",
            "source": "The photo that it was made from.",
            **_FACE,
            "distances": "moved, for each extractor.",
            "ssim": "Structural similarity of the face's region, 1 for equal.",
            "psnr": "Peak signal-to-noise ratio of the region in dB; null for equal.",
            "linf": "Largest change of a channel in the region, 0 to 255.",
            "attack": "What cloaked it.",
            "extractors": "The ensemble that it was made against.",
            "perceptual": "The perceptual distance that the attack weighed.",
            "knobs": "The attack's settings.",
            "seed": "Of the run.",
            "source_sha256": "Of the source's bytes.",
            "notes": "What of the photo could not be kept.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools perturb --attack lowkey --in photos/ --out cloaked/ > cloaked.jsonl",
                "Cloak every face below a folder.",
            ),
            (
                "facetools perturb --attack none --in photos/ --out control/ > control.jsonl",
                "Clean copies that went through the same saves.",
            ),
            (
                "facetools perturb --attack lowkey --set steps=20 --in me.jpg --out cloaked/ > me.jsonl",
                "A weaker, faster cloak.",
            ),
        ),
    ),
    "embed": Page(
        fields={
            "row": "Row of the embedding in the file; null where there is no face.",
            "file": "The safetensors file.",
            "path": "The photo.",
            "relative": "Where the photo lies below the input.",
            "sha256": "Of the photo's bytes.",
            "extractor": "What it was embedded with.",
            **_FACE,
            **_PROBLEM,
        },
        examples=(
            (
                "facetools embed --in photos/ --out clean.safetensors > clean.jsonl",
                "Embed every face below a folder.",
            ),
            (
                "facetools perturb --attack lowkey --in photos/ --out cloaked/ |\n"
                "  facetools embed --in - --out cloaked.safetensors > cloaked.jsonl",
                "Cloak photos and embed the same faces of the results.",
            ),
        ),
    ),
    "align": Page(
        fields={
            "confidence": "How sure the finder is, 0 to 1; null where there is no face.",
            "path": "The chip, a PNG file.",
            "relative": "Where the chip lies below the output folder.",
            "source": "The photo.",
            "alignment": "Name of the template.",
            "face": "Number of the face in its photo, from 0, largest first; null where there is none.",
            "box": "The whole chip: x0, y0, x1, y1 in chip pixels.",
            "landmarks": "Where the template puts them, in chip pixels.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools align --in photos/ --out chips/ > chips.jsonl",
                "Cut the chips of every face below a folder.",
            ),
            (
                "facetools align --in photos/ --out chips/ |\n  facetools embed --in - --out x.safetensors > x.jsonl",
                "Cut and embed.",
            ),
        ),
    ),
    "train-detector": Page(
        fields={
            "auc": "Area under the ROC curve on held-out people, after this epoch.",
            "epoch": "From 1.",
            "loss": "Mean training loss of the epoch.",
            "recall": "Share of held-out cloaked faces labelled cloaked.",
            "false_alarms": "Share of held-out clean faces labelled cloaked.",
            "faces": "Faces trained on.",
            "held_out_faces": "Faces of people kept apart.",
            "path": "A photo that could not be used.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools train-detector --clean control/ --cloaked cloaked/ \\\n"
                "  --out detector.safetensors > training.jsonl",
                "Train on the photos that perturb wrote, control copies against cloaks.",
            ),
            ("facetools detect --detector detector.safetensors --in photos/ > scores.jsonl", "Use it."),
        ),
    ),
}
