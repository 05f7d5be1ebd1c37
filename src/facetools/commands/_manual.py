"""What the man pages say besides the options: the fields of each command's records, and examples."""

from _toolio.cli.manual import Page

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
            "attack": "The likeliest attack; null unless the face is labelled cloaked.",
            "attacks": "How the score is shared out among the attacks that the detector knows.",
            "threshold": "Scores from here on are labelled cloaked.",
            "path": "The photo; archive.tar/member in an archive.",
            "relative": "Where the photo lies below the input.",
            "model": "The detector: its name and the beginning of its sha256.",
            "notes": "Which part of the file alone was looked at, if it holds more: first frame of an animation.",
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
            "perceptual": "The perceptual distance that the attack weighs: lpips-alex, or multiscale-dssim without it.",
            "perceptual_distance": "That distance between clean and cloaked region.",
            "unseen": "Cosine distance for each extractor of --measure, which were not attacked.",
            "steps": "Of the attack; null where it takes none.",
            "seconds": "That the attack took for this face.",
            "attack": "What cloaked it.",
            "mode": "Of the attack; null where it has none.",
            "extractors": "The ensemble that it was made against.",
            "views": "The random views that it was optimised through.",
            "targets": "The people that it was pulled to.",
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
            (
                "facetools perturb --attack fawkes-v1.0 --mode low --views jpeg,resize --strip-gps \\\n"
                "  --in me.jpg --out upload/ > upload.jsonl",
                "A cloak that is meant to survive an upload, without the place.",
            ),
            (
                "facetools embed --faces largest --in people/ --out targets.safetensors > targets.jsonl\n"
                "facetools perturb --attack fawkes-v0.3 --mode min --targets targets.safetensors \\\n"
                "  --in me.jpg --out cloaked/ > me.jsonl",
                "Pull a face to one of the people that are farthest from it.",
            ),
            (
                "facetools perturb --attack opom --save-mask me.safetensors --in photos/ --out cloaked/ > first.jsonl\n"
                "facetools perturb --attack opom --mask me.safetensors --in new/ --out later/ > new.jsonl",
                "Make a mask for each person once, and lay it over new photos at once.",
            ),
        ),
    ),
    "compare": Page(
        fields={
            "moved": "Cosine distance between clean and cloaked face's embedding, 0 to 2, mean over extractors.",
            "path": "The cloaked photo; null where there is none.",
            "relative": "Where it lies below its folder.",
            "source": "The clean photo; null where there is none.",
            "clean_size": "Width and height of the clean photo, pixels.",
            "cloaked_size": "The same of the cloaked one.",
            "scaled": "The cloaked photo was scaled to the clean one's size before anything was measured.",
            "outside_linf": "Largest change of a channel outside the faces' regions, 0 to 255; not for crops.",
            "preprocess": "What was done to both photos before the numbers of the face were measured.",
            **_FACE,
            "distances": "moved, for each extractor.",
            "ssim": "Structural similarity of the face's region, 1 for equal.",
            "psnr": "Peak signal-to-noise ratio of the region in dB; null for equal.",
            "linf": "Largest change of a channel in the region, 0 to 255.",
            "perceptual": "Name of the perceptual distance.",
            "perceptual_distance": "That distance of the regions.",
            "grid_row": "Row of the photo in the picture, from 0.",
            "amplify": "How many times as strong the picture draws the difference.",
            **_PROBLEM,
        },
        examples=(
            ("facetools compare photos/ cloaked/ > changes.jsonl", "Measure what any tool did to photos."),
            (
                "facetools compare photos/ cloaked/ --preprocess none --preprocess jpeg:75 > uploads.jsonl",
                "And what of it a JPEG of quality 75 leaves.",
            ),
            (
                "facetools compare photos/ cloaked/ --grid grid.png | sort -r | head",
                "Draw them, and list the ten that moved most.",
            ),
        ),
    ),
    "evaluate": Page(
        fields={
            "protection": "Share of clean test photos that the recogniser names wrongly, 0 to 1; of all: the mean.",
            "person": "Who was protected; null in the record of all people.",
            "classifier": "What the trainer trained.",
            "extractor": "What embedded the photos.",
            "robust": "The robust extractor of top2 and threshold.",
            "preprocess": "What the trainer did to all photos, after their faces were found in them as they were.",
            "cloak": "The cloaked photos' input; several, joined by +, for someone who changed their cloak.",
            "cloaks": "The same as a list.",
            "floor": "protection with nothing cloaked, on the same split and of the same photos.",
            "rank1": "Share of test photos whose nearest person is the right one; of top2 those of which one of two "
            "names is right.",
            "rank5": "Share whose five nearest people include the right one; null for top2, which names two.",
            "others_accuracy": "Share of everybody else's test photos that are named rightly.",
            "train_photos": "Photos of the person that were trained on, summed over folds: with four, each counts "
            "thrice. Of all: the sum over people, as of the next three.",
            "cloaked_photos": "How many of them were cloaked.",
            "photos_of_cloaks": "How many each cloak has cloaked, where there are several.",
            "test_photos": "Clean photos that were asked: of n photos floor((1 - split) n), but one at least and all "
            "but one at most; with folds, each once.",
            "limit": "Distance from the nearest neighbour beyond which threshold asks the robust extractor: 95% of the "
            "trainer's photos, the person's as posted, have one of the same person nearer; mean over folds.",
            "tar": "True accept rate of cloaked training photos against clean test photos, at each false accept rate, "
            "for which limits are set on the clean photos of all folds; null where there are too few pairs (nn).",
            "tar_clean": "The same with nothing cloaked (nn).",
            "interval": "95% bootstrap interval of the mean over people; null of one person.",
            "floor_interval": "The same for floor.",
            "people": "How many people were protected, one at a time.",
            "extractor_sha256": "Of its weights.",
            "robust_sha256": "Of the robust extractor's.",
            "distance": "What embeddings were compared with, cosine or euclidean; null for linear and e2e.",
            "robust_distance": "The robust extractor's.",
            "split": "Share of each person's photos that was trained on; null where there are folds.",
            "folds": "In how many splits photos were asked.",
            "fraction": "Share of the person's training photos that was cloaked, rounded, one at least.",
            "drop_missing": "Whether photos without a cloaked copy were left out.",
            "epochs": "Of e2e.",
            "learning_rate": "Of e2e.",
            "seed": "Of the split, of which photos are cloaked, and of e2e.",
            "command": "The command line that makes this record again; it may make others besides. What came from "
            "stdin is - in it, and must be given there again.",
            "input": "The input that a photo came from.",
            "path": "A photo that could not be used.",
            "relative": "Where it lies below its input.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools embed --in people/ --out clean.safetensors > clean.jsonl\n"
                "facetools embed --in cloaked/ --out cloaked.safetensors > cloaked.jsonl\n"
                "facetools evaluate --gallery clean.jsonl --cloaked cloaked.jsonl --classifier nn | sort",
                "Whom a cloak protects, and whom not, least protected first.",
            ),
            (
                "facetools evaluate --gallery people/ --cloaked cloaked/ --classifier nn --classifier linear \\\n"
                "  --preprocess none --preprocess jpeg:75 > protection.jsonl",
                "Straight from photos; two kinds of trainer, with and without the cheapest countermeasure.",
            ),
        ),
    ),
    "report": Page(
        fields={
            "bytes": "Size of the file; null where a photo could not be used.",
            "path": "The file; of an error, the photo.",
            "relative": "Where it lies below the output folder.",
            "kind": "page, table, chart or photo.",
            "sha256": "Of the file's bytes.",
            "error": "What went wrong with this photo: kind and message.",
        },
        examples=(
            (
                "facetools evaluate --gallery people/ --cloaked cloaked/ > results.jsonl\n"
                "facetools report --in results.jsonl --out report/ > files.jsonl",
                "A page of what was measured.",
            ),
            (
                "facetools evaluate --gallery people/ --cloaked cloaked/ --classifier nn --classifier linear |\n"
                "  facetools report --title 'LowKey, two trainers' --clean people/ --cloaked lowkey=cloaked/ \\\n"
                "  --examples 2 --out report/",
                "Straight from evaluate, with two example photos.",
            ),
        ),
    ),
    "plot": Page(
        fields={
            "auc": "roc: the chance that a cloaked face scores higher than a clean one; area under the ROC curve.",
            "detected": "histogram: share of the faces that score the threshold or more.",
            "ece": "calibration: how far score and share of cloaked faces are apart, the mean over faces.",
            "name": "The cloak; clean for clean faces; null where nothing tells what is cloaked.",
            "auc_interval": "95% bootstrap interval of auc; null of one group.",
            "over": "What the bootstrap draws: people (folders, ten at least), else photos; of records "
            "without a path, faces.",
            "groups": "How many of them there are.",
            "eer": "Share of errors at the threshold where as many cloaked faces are missed as clean ones labelled "
            "cloaked.",
            "threshold": "The records', or --threshold.",
            "recall": "Share of cloaked faces that score the threshold or more.",
            "precision": "Share of cloaked faces among those; null where there are none.",
            "false_alarms": "Share of clean faces that score the threshold or more.",
            "faces": "How many there are.",
            "quartiles": "Of the scores.",
            "counts": "Faces in each of 40 bars from 0 to 1.",
            "bins": "score (mean), share (of cloaked faces), interval (Wilson's, 95%) and faces of each bin; up to ten "
            "bins of like numbers, no fewer than ten faces each.",
            "clean": "How many clean faces there are.",
            "cloaked": "How many faces of this cloak.",
            "left_out": "Records that count nowhere: failed, without_score, without_truth, and repeated (the same face "
            "and score once more).",
            "kind": "roc, histogram or calibration.",
            "path": "The picture.",
            "reason": "Why there is no threshold.",
        },
        examples=(
            (
                "facetools detect --in photos/ > scores.jsonl\n"
                "facetools plot scores.jsonl --kind histogram --out x.png > x.jsonl",
                "How scores are spread.",
            ),
            (
                "facetools detect --in control/ --in cloaked/ > scores.jsonl\n"
                "facetools plot scores.jsonl --kind roc --cloaked cloaked/ --out roc.png > roc.jsonl",
                "How well they tell cloaked from clean: what does not lie in cloaked/ is clean.",
            ),
            (
                "facetools detect --in control/ > clean.jsonl\n"
                "facetools detect --in cloaked/ > lowkey.jsonl\n"
                "facetools plot --kind calibration --clean clean.jsonl --cloaked lowkey=lowkey.jsonl \\\n"
                "  --out calibration.svg > calibration.jsonl",
                "Whether a score is a chance, from a file each; --cloaked is given once for each cloak.",
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
    "train-extractor": Page(
        fields={
            "agreement": "Mean cosine of own and teacher's embeddings, the latter less their mean, of held-out people.",
            "auc": "Chance that two held-out faces of one person are closer than two of different people.",
            "teacher_auc": "The same for the teacher.",
            "epoch": "From 1.",
            "loss": "Mean training loss of the epoch.",
            "faces": "Faces trained on.",
            "held_out_faces": "Faces of people kept apart.",
            "path": "A photo that could not be used.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools train-extractor --in people/ --out mine.safetensors > training.jsonl",
                "Train on folders of photos, one a person.",
            ),
            ("facetools embed --extractor mine.safetensors --in photos/ --out x.safetensors > x.jsonl", "Use it."),
        ),
    ),
    "train-robust": Page(
        fields={
            "protection": "Mean of protections; null for a photo that could not be used.",
            "protections": "For each cloak the share of clean photos of held-out people whose nearest neighbour is "
            "somebody else when the person's other photos are cloaked; null where nobody can be asked.",
            "floors": "The same with these photos clean.",
            "clean_accuracy": "Share of clean photos of held-out people, nobody cloaked, whose nearest other photo is "
            "of the same person.",
            "clean_loss": "Percentage points of it that were lost since the untouched extractor.",
            "epoch": "From 0, which is the untouched extractor.",
            "loss": "Mean training loss of the epoch: the sum of the next two, weighted.",
            "identity_loss": "Of telling the people apart.",
            "consistency_loss": "Of embeddings that are not where the clean originals were.",
            "best": "Whether the epoch is the best so far, which the file will hold.",
            "blend": "In a last record, where every epoch costs too much: the part of the way from the untouched "
            "to the tuned weights that the file holds.",
            "held_out_faces": "Faces of people kept for the figures.",
            "person": "Somebody who is held out, and not used.",
            "photos": "How many photos of them there are.",
            "path": "A photo that could not be used.",
            **_PROBLEM,
        },
        examples=(
            (
                "facetools train-robust --clean people/ --cloaked lk/ --hold-out me/ --out r.safetensors > log.jsonl",
                "Learn from clean and cloaked photos of people, but not of me.",
            ),
            (
                "facetools train-robust --clean people/ --attack fawkes-v1.0:low --out r.safetensors",
                "Cloak the photos first, into r.safetensors.cloaks/.",
            ),
            (
                "torchrun --nproc-per-node 2 -m facetools train-robust --clean people/ --cloaked lk/ --out x",
                "Train on two GPUs.",
            ),
        ),
    ),
    "import-extractor": Page(
        fields={
            "dimensions": "Length of an embedding; null where a tensor does not match.",
            "file": "The extractor file that was written.",
            "architecture": "The network's architecture; where tensors do not match, the one that came nearest.",
            "source": "What it was made from.",
            "source_sha256": "Of the source's bytes; of a folder, of those of its files that were read.",
            "sha256": "Of the file that was written.",
            "settings": "How chips are prepared for the network, and what embeddings are compared with.",
            "tensors": "How many the file holds.",
            "left_out": "Tensors of the source that no embedding needs, such as a classifier's.",
            "bytes": "Size of the file.",
            "problem": "missing, unknown (the architecture has no such tensor) or shape (it is of another shape).",
            "key": "Name of the tensor that does not match, as the architecture calls it.",
            "shape": "Its shape in the source; null where it is missing.",
            "wanted": "The shape that it should have; null where it is unknown.",
        },
        examples=(
            (
                "facetools import-extractor backbone.pth --architecture mobilefacenet --out mine.safetensors",
                "Make an extractor file from a PyTorch checkpoint.",
            ),
            (
                "facetools import-extractor backbone.pth --input-size 112 --mean 127.5 --std 128 \\\n"
                "  --out mine.safetensors > mine.jsonl &&\n"
                "  facetools embed --extractor mine.safetensors --in photos/ --out x.safetensors > x.jsonl",
                "Recognise the architecture by its tensors, say how chips are prepared, and embed with the result.",
            ),
        ),
    ),
    "extractors": Page(
        fields={
            "dimensions": "Length of an embedding; null for an architecture, whose networks differ.",
            "kind": "built-in, architecture or file.",
            "name": "What --extractor or --architecture takes; of a file, what records call it.",
            "architecture": "The network's architecture.",
            "installed": "Whether the weights, or the packages that the architecture needs, are there.",
            "summary": "What the architecture is.",
            "settings": "How chips are prepared; of an architecture, what is usual for its networks.",
            "sha256": "Of the weights; of a file, of its bytes.",
            "file": "The file.",
            "source": "What the file was made from: name, sha256, and where in it the weights lay.",
            "version": "Of the tool that made the file.",
            "bytes": "Size of the file.",
            "reason": "Why it is not installed.",
            "error": "What is wrong with this file: kind and message.",
        },
        examples=(("facetools extractors > extractors.jsonl", "List what is known and what is installed."),),
    ),
    "train-detector": Page(
        fields={
            "auc": "Area under the ROC curve on held-out people, after this epoch.",
            "attacks": "That area for each attack alone, its faces against all clean ones; null where it has none.",
            "attack_accuracy": "Share of held-out cloaked faces whose attack is the likeliest.",
            "epoch": "From 1.",
            "held_out_faces": "Faces of people kept apart.",
            "loss": "Mean training loss of the epoch.",
            "faces": "Faces trained on.",
            "paired": "Cloaked ones among them that have a clean copy, told by name and size: the more, the better.",
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
