# The detector that is installed with the package, from data to figures:
#
#   make -f tools/train_shipped_detector.mk PHOTOS='lfw.tar photos.tar'           train it, in WORK
#   make -f tools/train_shipped_detector.mk install                               put it into the package
#   make -f tools/train_shipped_detector.mk figures REAL='imm:fawkes=cloaked/'    measure it: Markdown tables
#
# PHOTOS are folders or tars of clean photos. A tar of one folder lfw/<person>/<photo> is one source; of any other the
# folders below its top are the sources, so that your own collections can take part: collections/<source>/.../<photo>.
# Folders called as in WITHOUT are left out: photos that are cloaked already.
# Each source is scored by a detector that was trained without it, and thresholds are chosen on these scores. Everything
# that is made lies in WORK; docs/results/scripts/detector_cloaks.py says of which photos. Interrupted runs go on where
# they were. On two cores the second extractor takes 20 minutes, the cloaks 30 and the training an hour.

PHOTOS    ?= lfw.tar photos.tar
WITHOUT   ?= fawkes-min fawkes-high
WORK      ?= build/detector
FACETOOLS ?= .venv/bin/facetools
PYTHON    ?= .venv/bin/python
SEED      := 0
EPOCHS    ?= 150
FOLDS     ?= 3
PRECISION ?= bfloat16
SHIPPED   := src/facetools/weights/detector.safetensors

# Cloaks are made in as many processes as there are cores, of one thread each; the training takes all.
export OMP_NUM_THREADS ?= 1
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: train install figures
train: $(WORK)/detector.safetensors

# The second extractor that cloaks are made against.
$(WORK)/second.safetensors: $(firstword $(PHOTOS))
	mkdir -p $(WORK)
	@rm -f $@
	$(FACETOOLS) train-extractor --resume --in $< --epochs 4 --batch 32 --held-out 0.2 --out $@ > $(WORK)/second.jsonl

$(WORK)/cloaks.stamp: $(PHOTOS) $(WORK)/second.safetensors docs/results/scripts/detector_cloaks.py
	$(PYTHON) docs/results/scripts/detector_cloaks.py $(WORK) --second $(WORK)/second.safetensors \
	  $(addprefix --without ,$(WITHOUT)) $(PHOTOS)
	touch $@

# Folders of cloaks are named by attack and mode; the attack is what the detector names.
ATTACKS := fawkes-v0.3 fawkes-v1.0 lowkey opom tip-im
$(WORK)/detector.safetensors: $(WORK)/cloaks.stamp
	@rm -f $@
	OMP_NUM_THREADS= $(FACETOOLS) train-detector --resume --seed $(SEED) --epochs $(EPOCHS) --folds $(FOLDS) \
	  --keep-folds --precision $(PRECISION) --clean $(WORK)/photos --out $@ \
	  $$(for attack in $(ATTACKS); do for folder in $(WORK)/cloaked/$$attack*; do \
	    echo --cloaked $$attack=$$folder; done; done) > $(WORK)/training.jsonl

install:
	cp $(WORK)/detector.safetensors $(SHIPPED)

figures:
	$(PYTHON) docs/results/scripts/detector_figures.py $(WORK) $(REAL)
