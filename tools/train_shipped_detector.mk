# The detector that is installed with the package, from data to figures:
#
#   make -j2 -f tools/train_shipped_detector.mk LFW=lfw.tar            train it, in WORK
#   make -f tools/train_shipped_detector.mk install                    put it into the package
#   make -j2 -f tools/train_shipped_detector.mk LFW=lfw.tar figures    measure the installed one
#
# LFW is the deep-funneled Labeled Faces in the Wild as a tar of lfw/<person>/<photo>. Everything that is
# made lies in WORK. Interrupted runs go on where they were.
#
# People are dealt out by their place in the sorted list of names, modulo 5: 1 and 2 give photos as they are,
# 3 and 4 give photos varied in scale, sharpness, grain and colour, 0 is kept for the figures and never seen
# in training. Clean photos go through the same saves as cloaked ones (attack none).

LFW       ?= lfw.tar
WORK      ?= build/detector
FACETOOLS ?= .venv/bin/facetools
PYTHON    ?= .venv/bin/python
SEED      := 0
SHIPPED   := src/facetools/weights/detector.safetensors

# One thread a process: make -j runs processes side by side.
export OMP_NUM_THREADS ?= 1
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: train install figures
train: $(WORK)/detector.safetensors

PERTURB = $(FACETOOLS) perturb --faces largest --seed $(SEED) --resume

$(WORK)/people.txt: $(LFW)
	mkdir -p $(WORK)
	tar -xf $(LFW) -C $(WORK)
	find $(WORK)/lfw -name '*_0001.jpg' | LC_ALL=C sort > $@

# $(call photos,1,2) lists the photos of these residues; $(call copy,DIR) copies a list, a folder a person.
photos = awk 'NR % 5 == $(1) || NR % 5 == $(2)' $(WORK)/people.txt
copy   = while read -r photo; do person=$$(basename $$(dirname $$photo)); \
	  mkdir -p $(1)/$$person; cp $$photo $(1)/$$person/; done

# A folder is complete when the stamp beside it is there.
$(WORK)/plain.stamp: $(WORK)/people.txt
	$(call photos,1,2) | $(call copy,$(WORK)/plain)
	touch $@

$(WORK)/varied.stamp: $(WORK)/people.txt tools/vary_photos.py
	$(call photos,3,4) | $(PYTHON) tools/vary_photos.py $(SEED) $(WORK)/varied
	touch $@

$(WORK)/unseen.stamp: $(WORK)/people.txt
	$(call photos,0,0) | head -n 200 | $(call copy,$(WORK)/unseen)
	touch $@

# Cloaks and control copies as PNG: the training makes JPEGs of both, blind to the label. The varied photos
# are cloaked with fewer steps, so that weaker cloaks are known too.
$(WORK)/plain-lowkey.jsonl: $(WORK)/plain.stamp
	$(PERTURB) --attack lowkey --format png --in $(WORK)/plain --out $(WORK)/plain-lowkey > $@
$(WORK)/varied-lowkey.jsonl: $(WORK)/varied.stamp
	$(PERTURB) --attack lowkey --set steps=25 --format png --in $(WORK)/varied --out $(WORK)/varied-lowkey > $@
$(WORK)/%-none.jsonl: $(WORK)/%.stamp
	$(PERTURB) --attack none --format png --in $(WORK)/$* --out $(WORK)/$*-none > $@

$(WORK)/detector.safetensors: $(foreach set,plain varied,$(foreach attack,lowkey none,$(WORK)/$(set)-$(attack).jsonl))
	$(FACETOOLS) train-detector --seed $(SEED) --force --out $@ \
	  --clean $(WORK)/plain-none --clean $(WORK)/varied-none \
	  --cloaked $(WORK)/plain-lowkey --cloaked $(WORK)/varied-lowkey > $(WORK)/training.jsonl

install:
	cp $(WORK)/detector.safetensors $(SHIPPED)

# Figures on people that no part of training has seen, once as PNG and once as JPEG 75.
$(WORK)/unseen-lowkey.jsonl: $(WORK)/unseen.stamp
	$(PERTURB) --attack lowkey --format png --in $(WORK)/unseen --out $(WORK)/unseen-lowkey > $@
$(WORK)/unseen-%-jpeg.jsonl: $(WORK)/unseen-%.jsonl
	$(PERTURB) --attack none --format jpeg --quality 75 --in $(WORK)/unseen-$* --out $(WORK)/unseen-$*-jpeg > $@
$(WORK)/unseen-%.scores.jsonl: $(WORK)/unseen-%.jsonl $(SHIPPED)
	$(FACETOOLS) detect --faces largest --in $(WORK)/unseen-$* > $@

figures: $(foreach kind,none lowkey none-jpeg lowkey-jpeg,$(WORK)/unseen-$(kind).scores.jsonl)
	@echo lossless; $(PYTHON) tools/figures.py $(WORK)/unseen-none.scores.jsonl $(WORK)/unseen-lowkey.scores.jsonl
	@echo JPEG 75; $(PYTHON) tools/figures.py $(WORK)/unseen-none-jpeg.scores.jsonl $(WORK)/unseen-lowkey-jpeg.scores.jsonl
