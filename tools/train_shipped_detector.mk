# The detector that is installed with the package, from data to figures:
#
#   make -j2 -f tools/train_shipped_detector.mk LFW=lfw.tar            train it, in WORK
#   make -f tools/train_shipped_detector.mk install                    put it into the package
#   make -f tools/train_shipped_detector.mk LFW=lfw.tar figures        measure the installed one: Markdown tables
#   make -j3 -f tools/train_shipped_detector.mk LFW=lfw.tar unmet      and what three of its kind make of an attack that
#                                                                      they were not trained on
#
# LFW is the deep-funneled Labeled Faces in the Wild as a tar of lfw/<person>/<photo>. Everything that is made lies in
# WORK; docs/results/scripts/detector_cloaks.py says of which photos. Interrupted runs go on where they were; after a change of how
# photos are cloaked, varied or changed remove what was made so. On two cores the cloaks take two hours and the training
# one.

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
.PHONY: train install figures unmet
train: $(WORK)/detector.safetensors

# The second extractor of ensembles.
$(WORK)/second.safetensors: $(LFW)
	mkdir -p $(WORK)
	@rm -f $@
	$(FACETOOLS) train-extractor --resume --in $(LFW) --epochs 10 --batch 32 --held-out 0.2 --out $@ > $(WORK)/second.jsonl

$(WORK)/cloaks.stamp: $(LFW) $(WORK)/second.safetensors docs/results/scripts/detector_cloaks.py docs/results/scripts/vary_photos.py
	$(PYTHON) docs/results/scripts/detector_cloaks.py $(LFW) $(WORK) --second $(WORK)/second.safetensors
	touch $@

# Folders of cloaks by attack. Those of ENSEMBLES and of the costliest modes are for the shipped detector alone.
lowkey      := lowkey lowkey-fast lowkey-fast-varied lowkey-varied
fawkes-v1.0 := fawkes-v1.0-high fawkes-v1.0-low fawkes-v1.0-mid fawkes-v1.0-high-varied fawkes-v1.0-mid-varied
fawkes-v0.3 := fawkes-v0.3-min fawkes-v0.3-low fawkes-v0.3-mid fawkes-v0.3-low-varied
ENSEMBLES   := lowkey=lowkey-ensemble fawkes-v1.0=fawkes-v1.0-ensemble
COSTLY      := fawkes-v0.3=fawkes-v0.3-high fawkes-v0.3=fawkes-v0.3-ultra opom=opom tip-im=tip-im
ATTACKS     := lowkey fawkes-v0.3 fawkes-v1.0

# Of attack=folder: the options that name it.
cloaked = $(foreach each,$1,--cloaked $(subst =,=$(WORK)/train/,$(each)))
of      = $(foreach attack,$1,$(addprefix $(attack)=,$($(attack))))
TRAIN   = $(FACETOOLS) train-detector --resume --seed $(SEED) --faces central --held-out 0.1 --false-alarms 0.005 \
	  $(foreach set,first second varied,--clean $(WORK)/clean/$(set)) --out $@

$(WORK)/detector.safetensors: $(WORK)/cloaks.stamp
	@rm -f $@
	$(TRAIN) --epochs $(EPOCHS) $(call cloaked,$(call of,$(ATTACKS)) $(ENSEMBLES) $(COSTLY)) > $(WORK)/training.jsonl
EPOCHS ?= 80

install:
	cp $(WORK)/detector.safetensors $(SHIPPED)

figures: $(WORK)/cloaks.stamp
	$(PYTHON) docs/results/scripts/detector_figures.py $(WORK)

# Trained on two of the attacks, tested on the third.
EPOCHS_lowkey ?= 30
$(WORK)/without-%.safetensors: $(WORK)/cloaks.stamp
	@rm -f $@
	$(TRAIN) --epochs $(or $(EPOCHS_$*),12) $(call cloaked,$(call of,$(filter-out $*,$(ATTACKS)))) > $(@:.safetensors=.jsonl)
unmet: $(ATTACKS:%=$(WORK)/without-%.safetensors)
	@for attack in $(ATTACKS); do echo; echo "$$attack, never met:"; \
	  $(PYTHON) docs/results/scripts/detector_figures.py $(WORK) $(WORK)/without-$$attack.safetensors $$attack; done
