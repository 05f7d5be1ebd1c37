# Does a cloak protect anybody? arXiv 2106.14851 as a Makefile of pipes.
#
#   make -f examples/face-poisoning.mk DATA=lfw.tar            report/index.html, and what it is made of in work/
#   make -f examples/face-poisoning.mk DATA=photos/ -j2        a folder that holds <person>/<photo>
#   make -f examples/face-poisoning.mk DATA=lfw.tar check      the figures as a table on the terminal
#
# Some people of the data are the recogniser's gallery, and a few of them post cloaked photos. Everybody else is public:
# the adaptive trainer learns from their photos, cloaked by the same tools. Touch a photo, and what depends on it is
# made again. A run that was cut off goes on where it was; photos are cloaked and epochs trained once. make does not see
# variables: after a change of one, remove what it made from work/.

DATA      ?= people
WORK      ?= work
REPORT    ?= report
FACETOOLS ?= facetools
SHA256    ?= sha256sum
SEED      ?= 0

# Who is who. The draw depends on names alone.
MIN       ?= 10# photos, at least, of somebody in the gallery
GALLERY   ?= 150# people in it, at most
PHOTOS    ?= 10# photos of each, at most
PROTECTED ?= 20# of them who cloak theirs
FACES     ?= central# whose face a photo is: central or largest

# Attacks whose cloaks are evaluated, and the options of each. All are made against the trainer's own extractor.
ATTACKS   ?= lowkey fawkes-v1.0 opom fawkes-v0.3
OPTIONS_lowkey      ?= --attack lowkey
OPTIONS_fawkes-v1.0 ?= --attack fawkes-v1.0 --mode high
OPTIONS_opom        ?= --attack opom --save-mask $(WORK)/cloaks/opom.safetensors
OPTIONS_fawkes-v0.3 ?= --attack fawkes-v0.3 --mode mid --targets $(WORK)/targets.safetensors

# What the adaptive trainer learns from: cloaks of public people. Of the attacks above that are not here it knows nothing.
# LEARN_x counts photos, SET_x says which: first (one of each person) or second (another one, and one of the rest).
LEARN     ?= lowkey lowkey-fast fawkes-v1.0
PUBLIC    ?= 600# people whose first photo is in the set first
SET_lowkey          ?= first
SET_lowkey-fast     ?= second
SET_fawkes-v1.0     ?= first
LEARN_lowkey        ?= 600
LEARN_lowkey-fast   ?= 808
LEARN_fawkes-v1.0   ?= 110
OPTIONS_lowkey-fast ?= --attack lowkey --set steps=8 --set step_size=0.012 --seed 1

# Recognisers. TRAINER is what cloaks are made against; OTHERS are files of extractors that a later trainer may use.
# TUNED are those of them, by name, that the adaptive trainer begins with: x becomes robust-x, with the options ROBUST_x.
TRAINER   ?= dlib-resnet
OTHERS    ?=
TUNED     ?= $(TRAINER)
ROBUST    ?= --epochs 20
CLASSIFIERS    ?= nn linear
HYBRIDS   ?= top2 threshold
FOLDS     ?= 3
COUNTERS  ?= none jpeg:75 resize:0.5 blur:1
E2E       ?=# people to protect from a recogniser that is trained end to end: minutes each

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all check FORCE
.SECONDARY:
.DEFAULT_GOAL := all

OTHER_NAMES := $(basename $(notdir $(OTHERS)))
EXTRACTORS  := $(TRAINER) $(OTHER_NAMES) $(TUNED:%=robust-%)
file_of      = $(if $(filter robust-%,$1),$(WORK)/$1.safetensors,$(if $(filter $(TRAINER),$1),$1,$(filter %/$1.safetensors $1.safetensors,$(OTHERS))))
WAYS        := $(EXTRACTORS) counter $(TUNED:%=hybrid-%) $(if $(E2E),e2e)
RESULTS     := $(foreach attack,$(ATTACKS),$(WAYS:%=$(WORK)/results/$(attack).%.jsonl))
TRAININGS   := $(TUNED:%=$(WORK)/robust-%.jsonl)

all: $(REPORT)/index.html

check: $(RESULTS)
	@cat $^ | grep '"person":null' | sort

$(REPORT)/index.html: $(RESULTS) $(TRAININGS)
	$(FACETOOLS) report --force --title 'Does a cloak protect anybody?' --clean $(WORK)/protected \
	  $(foreach attack,$(ATTACKS),--cloaked $(attack)=$(WORK)/cloaks/$(attack)) $(foreach each,$^,--in $(each)) \
	  --out $(REPORT) > $(WORK)/report.jsonl

# --- who is who ---------------------------------------------------------------------------------------------------

# A tar is unpacked once. Its photos lie below <person>/, wherever that lies in it.
ifneq ($(filter %.tar,$(DATA)),)
SOURCE := $(WORK)/photos
$(WORK)/photos/.unpacked: $(DATA)
	@mkdir -p $(@D) && tar -xf $< -C $(@D) && touch $@
else
SOURCE := $(DATA)
endif

# Every photo with its size and time: written again only where a photo has changed, as are the lists made of it.
$(WORK)/photos.txt: FORCE $(if $(filter %.tar,$(DATA)),$(WORK)/photos/.unpacked)
	@mkdir -p $(@D)
	@find $(SOURCE)/ -type f -not -name '.*' -printf '%p\t%s\t%T@\n' | LC_ALL=C sort > $@.new
	@test -s $@.new || { echo 'make: error: no photos in $(DATA); give DATA=folder or DATA=file.tar' >&2; exit 1; }
	@cmp -s $@.new $@ && rm $@.new || mv $@.new $@

# person, then path, size and time, people in the order of their names' hashes.
$(WORK)/people.txt: $(WORK)/photos.txt
	@awk -F '\t' '{n = split($$1, part, "/"); print part[n - 1] == "face" ? part[n - 2] : part[n - 1]}' $< | LC_ALL=C sort -u | while IFS= read -r person; do \
	  printf '%s\t%s\n' "$$(printf %s "$$person" | $(SHA256) | cut -c 1-16)" "$$person"; done | LC_ALL=C sort > $@.order
	@awk -F '\t' 'NR == FNR {order[$$2] = FNR; next} {n = split($$1, part, "/"); if (part[n - 1] == "face") n--; \
	  printf "%06d\t%s\t%s\n", order[part[n - 1]], part[n - 1], $$0}' $@.order $< | LC_ALL=C sort > $@

# The sets: gallery, protected, others, first and second.
define CHOOSE
NR == FNR {count[$$2]++; next}
count[$$2] >= MIN && !($$2 in rank) && people < GALLERY {rank[$$2] = ++people}
{place[$$2]++}
$$2 in rank {if (place[$$2] <= PHOTOS) {print > OUT "gallery.new"; if (rank[$$2] <= PROTECTED) print > OUT "protected.new"}; next}
{print > OUT "others.new"}
!($$2 in public) {public[$$2] = ++publics}
public[$$2] <= PUBLIC && place[$$2] == 1 {print > OUT "first.new"; next}
place[$$2] <= 2 {print > OUT "second.new"}
endef
export CHOOSE

SETS := gallery protected others first second
$(WORK)/sets.stamp: $(WORK)/people.txt FORCE
	@mkdir -p $(WORK)/sets && rm -f $(WORK)/sets/*.new
	@awk -F '\t' -v MIN=$(MIN) -v GALLERY=$(GALLERY) -v PHOTOS=$(PHOTOS) -v PROTECTED=$(PROTECTED) -v PUBLIC=$(PUBLIC) \
	  -v OUT=$(WORK)/sets/ "$$CHOOSE" $< $<
	@for set in $(SETS); do \
	  test -s $(WORK)/sets/$$set.new || { echo "make: error: nobody is left for the set $$set; try a smaller MIN or GALLERY" >&2; exit 1; }; \
	  cmp -s $(WORK)/sets/$$set.new $(WORK)/sets/$$set.txt && rm $(WORK)/sets/$$set.new || mv $(WORK)/sets/$$set.new $(WORK)/sets/$$set.txt; \
	done
	@touch $@
$(SETS:%=$(WORK)/sets/%.txt): $(WORK)/sets.stamp ;

# A set's folder: links to its photos, below their people.
$(SETS:%=$(WORK)/%/.made): $(WORK)/%/.made: $(WORK)/sets/%.txt
	@rm -rf $(@D) && mkdir -p $(@D)
	@while IFS='	' read -r number person path rest; do \
	  link="$(@D)/$$person/$${path##*/}"; mkdir -p "$(@D)/$$person"; \
	  test ! -e "$$link" || { echo "make: error: two photos of $$person are called $${path##*/}; rename $$path" >&2; exit 1; }; \
	  ln "$$path" "$$link" 2> /dev/null || cp -p "$$path" "$$link" || exit 1; done < $<
	@touch $@

# --- cloaks -------------------------------------------------------------------------------------------------------

CLOAK = $(FACETOOLS) perturb --resume --faces $(FACES) --format png --extractor $(TRAINER)

.SECONDEXPANSION:
$(WORK)/cloaks/%.jsonl: $(WORK)/protected/.made $$(if $$(findstring --targets,$$(OPTIONS_$$*)),$(WORK)/targets.safetensors)
	@mkdir -p $(@D)
	@test ! -e $@ || rm -rf $(WORK)/cloaks/$*  # made of other photos; a run that was cut off has left no such file
	$(CLOAK) $(OPTIONS_$*) --in $(WORK)/protected --out $(WORK)/cloaks/$* > $@

# Whom targeted attacks pull to: public people.
$(WORK)/targets.safetensors: $(WORK)/first/.made
	$(FACETOOLS) embed --faces $(FACES) --extractor $(TRAINER) --in $(WORK)/first --force --out $@ > $(WORK)/targets.jsonl

$(LEARN:%=$(WORK)/learn/%.jsonl): $(WORK)/learn/%.jsonl: $(WORK)/first/.made $(WORK)/second/.made
	@mkdir -p $(@D)
	@test ! -e $@ || rm -rf $(WORK)/learn/$*
	(cd $(WORK)/$(SET_$*) && find . -type f -not -name '.*' | LC_ALL=C sort | head -n $(LEARN_$*) | tr '\n' '\0' | \
	  tar -c --null -T - -h -f ../learn/$*.tar)
	$(CLOAK) $(OPTIONS_$*) --in $(WORK)/learn/$*.tar --out $(WORK)/learn/$* > $@

# --- recognisers --------------------------------------------------------------------------------------------------

$(TRAININGS): $(WORK)/robust-%.jsonl: $(WORK)/others/.made $(LEARN:%=$(WORK)/learn/%.jsonl) $$(call file_of,$$*)
	$(FACETOOLS) train-robust --resume --seed $(SEED) --faces $(FACES) --extractor $(call file_of,$*) --clean $(WORK)/others \
	  $(foreach name,$(LEARN),--cloaked $(WORK)/learn/$(name)) --hold-out $(WORK)/gallery $(or $(ROBUST_$*),$(ROBUST)) \
	  --force --out $(WORK)/robust-$*.safetensors > $@
$(TUNED:%=$(WORK)/robust-%.safetensors): %.safetensors: %.jsonl ;

define EMBED
$(WORK)/embed/$1/gallery.jsonl: $(WORK)/gallery/.made $(call file_of,$1)
	@mkdir -p $$(@D)
	$(FACETOOLS) embed --force --faces $(FACES) --extractor $(call file_of,$1) --in $(WORK)/gallery \
	  --out $(WORK)/embed/$1/gallery.safetensors > $$@
$(ATTACKS:%=$(WORK)/embed/$1/%.jsonl): $(WORK)/embed/$1/%.jsonl: $(WORK)/cloaks/%.jsonl $(call file_of,$1)
	@mkdir -p $$(@D)
	$(FACETOOLS) embed --force --faces $(FACES) --extractor $(call file_of,$1) --in $(WORK)/cloaks/$$* \
	  --out $(WORK)/embed/$1/$$*.safetensors > $$@
$(ATTACKS:%=$(WORK)/results/%.$1.jsonl): $(WORK)/results/%.$1.jsonl: $(WORK)/embed/$1/gallery.jsonl $(WORK)/embed/$1/%.jsonl
	@mkdir -p $$(@D)
	$(FACETOOLS) evaluate --seed $(SEED) --folds $(FOLDS) $(CLASSIFIERS:%=--classifier %) \
	  --gallery $(WORK)/embed/$1/gallery.jsonl --cloaked $(WORK)/embed/$1/$$*.jsonl > $$@
endef
ifeq ($(wildcard $(TRAINER)),)
# Built in, and no file.
$(TRAINER): ;
endif
$(foreach extractor,$(EXTRACTORS),$(eval $(call EMBED,$(extractor))))

EVALUATE = $(FACETOOLS) evaluate --seed $(SEED) --faces $(FACES) --gallery $(WORK)/gallery --extractor $(TRAINER)

# What a trainer can do to photos first, without learning anything.
$(ATTACKS:%=$(WORK)/results/%.counter.jsonl): $(WORK)/results/%.counter.jsonl: $(WORK)/gallery/.made $(WORK)/cloaks/%.jsonl
	@mkdir -p $(@D)
	$(EVALUATE) --folds $(FOLDS) $(COUNTERS:%=--preprocess %) --cloaked $(WORK)/cloaks/$* > $@

# The accurate and a robust recogniser together.
define HYBRID
$(ATTACKS:%=$(WORK)/results/%.hybrid-$1.jsonl): $(WORK)/results/%.hybrid-$1.jsonl: $(WORK)/gallery/.made $(WORK)/cloaks/%.jsonl $(WORK)/robust-$1.safetensors
	@mkdir -p $$(@D)
	$(EVALUATE) --folds $(FOLDS) $(HYBRIDS:%=--classifier %) --robust $(WORK)/robust-$1.safetensors \
	  --cloaked $(WORK)/cloaks/$$* > $$@
endef
$(foreach name,$(TUNED),$(eval $(call HYBRID,$(name))))

$(ATTACKS:%=$(WORK)/results/%.e2e.jsonl): $(WORK)/results/%.e2e.jsonl: $(WORK)/gallery/.made $(WORK)/cloaks/%.jsonl
	@mkdir -p $(@D)
	$(EVALUATE) --classifier e2e $(E2E:%=--protected %) --cloaked $(WORK)/cloaks/$* > $@
