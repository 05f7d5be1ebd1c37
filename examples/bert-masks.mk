# How fine can fine-tuning be? arXiv 2004.14129 as a Makefile of pipes: which layers matter, and tuning by zeroing.
#
#   make -f examples/bert-masks.mk BASE=minilm DATA=glue          figures of every run in work/<task>/<seed>/
#   make -f examples/bert-masks.mk BASE=minilm DATA=glue masks    the second half: those of masks
#   make -f examples/bert-masks.mk BASE=minilm DATA=glue limits   what limits a mask, one change at a time
#   make -f examples/bert-masks.mk BASE=minilm DATA=glue curves   the score by steps; paths: what lies between two masks
#   make -f examples/bert-masks.mk BASE=minilm DATA=glue check    the figures, ranked, on the terminal
#   make -j2 -f examples/bert-masks.mk BASE=minilm DATA=glue TASKS=sst2 SEEDS=0
#
# DATA holds <task>/train.jsonl and <task>/dev.jsonl. A task is tuned in full, and layerdiff says how far each matrix of
# the encoder has moved; then the base is tuned again, but only that half of the matrices which moved most (or least, or
# any), a single group, a half of the layers, or the head alone. A run on shuffled labels shows how far a matrix moves
# with nothing to learn. Every run makes the same number of steps and is measured once, at its end. A run that was cut
# off is made again. make does not see variables: after a change of one, remove what it made from work/.

BASE      ?= base
DATA      ?= glue
WORK      ?= work
BERTTOOLS ?= berttools
PYTHON    ?= python3
SHA256    ?= sha256sum

TASKS     ?= sst2 cola rte stsb wnli
SEEDS     ?= 0 1 2
HEAD      ?= ^(classifier|score|pre_classifier)[.]|pooler# a head that is tuned alone
GROUPS    ?= Q K V AO I O# the encoder's matrices
METRICS   ?= angle mean_abs rel_l2# fields of layerdiff that rank

# How to tune: the same for every run of a task. A new head learns at its own rate: where little else is tuned, the
# rest's would leave it as it was drawn.
TUNE      ?= --batch 16 --head-lr 1e-3
LR        ?= 2e-4
LR_cola   ?= 5e-5
LR_rte    ?= 5e-5
LR_stsb   ?= 1e-4
LR_wnli   ?= 5e-5
LR_opinion ?= 1e-4# opinion and topic are written by docs/results/scripts/more_tasks.py
LR_SOME   ?=# where only some of a model is tuned; without, the same
LR_SOME_cola ?= 1e-4
LR_SOME_rte ?= 1e-4
LR_SOME_stsb ?= 2e-4
STEPS     ?= 400
STEPS_cola ?= 1200
STEPS_rte  ?= 300
STEPS_stsb ?= 800
STEPS_wnli ?= 100
STEPS_opinion ?= 500
STEPS_topic ?= 300
METRIC_cola ?= matthews

# A pipe fails where any of its commands does (.SHELLFLAGS: GNU make 3.82 or later). What takes the first lines of many
# reads the rest too: a command whose reader goes away fails.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
first = awk -v most="$1" 'NR <= most'

# A command's seconds of processor time go beside what it writes.
TIMED = TIMEFORMAT=%U; { time $1 2>&3; } 3>&2 2> $(@:.jsonl=.seconds)

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all check masks overlaps
.DEFAULT_GOAL := all

RUNS := full null head $(METRICS:%=most-%) least-angle random upper lower $(GROUPS:%=group-%)
PLACES := $(foreach task,$(TASKS),$(SEEDS:%=$(WORK)/$(task)/%))
RESULTS := $(foreach place,$(PLACES),$(RUNS:%=$(place)/%.jsonl) $(place)/null.diff.jsonl)

all: $(RESULTS)

# First the metric, then what was tuned of how much, and where it is.
check: $(RESULTS)
	@for task in $(TASKS); do tail -qn 1 $(foreach seed,$(SEEDS),$(RUNS:%=$(WORK)/$$task/$(seed)/%.jsonl)) | sort -r; done

# Of work/<task>/<seed>/<run>.jsonl.
seed_of = $(notdir $(patsubst %/,%,$(dir $1)))
task_of = $(notdir $(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $1)))))
lr_of = $(or $(LR_$(call task_of,$1)),$(LR))
some_lr_of = $(or $(LR_SOME_$(call task_of,$1)),$(LR_SOME),$(call lr_of,$1))
steps_of = $(or $(STEPS_$(call task_of,$1)),$(STEPS))
metric_of = $(if $(METRIC_$(call task_of,$1)),--metric $(METRIC_$(call task_of,$1)))
FINETUNE = $(BERTTOOLS) finetune --base $(BASE) --dev $(DATA)/$(call task_of,$@)/dev.jsonl $(TUNE) \
	  --seed $(call seed_of,$@) \
	  --max-steps $(call steps_of,$@) --evaluate-every $(call steps_of,$@) $(call metric_of,$@) --force
ALL = --lr $(call lr_of,$@) --out $(@:.jsonl=)
ON_DATA = --lr $(call some_lr_of,$@) --train $(DATA)/$(call task_of,$@)/train.jsonl --out $(@:.jsonl=.delta.safetensors) --save delta

.SECONDEXPANSION:
data_of = $(DATA)/$(call task_of,$1)/train.jsonl $(DATA)/$(call task_of,$1)/dev.jsonl

# --- in full, and with nothing to learn ----------------------------------------------------------------------------

$(PLACES:%=%/full.jsonl): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(FINETUNE) --train $< $(ALL)) > $@

# Every label stays, of another text.
define SHUFFLE
import json, random, sys
records = [json.loads(line) for line in sys.stdin]
labels = [record["label"] for record in records]
random.Random(int(sys.argv[1])).shuffle(labels)
for record, record["label"] in zip(records, labels):
    print(json.dumps(record))
endef
export SHUFFLE

$(PLACES:%=%/shuffled.jsonl): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(PYTHON) -c "$$SHUFFLE" $(call seed_of,$@) < $< > $@

$(PLACES:%=%/null.jsonl): %/null.jsonl: %/shuffled.jsonl
	$(FINETUNE) --train $< $(ALL) > $@

# --- how far it moved ----------------------------------------------------------------------------------------------

comma := ,
space := $() $()
DIFF = $(BERTTOOLS) layerdiff --group $(subst $(space),$(comma),$(strip $(GROUPS)))

# Beside it how far the base lies from a fresh initialisation: fine-tuning moves little of that way.
$(PLACES:%=%/full.diff.jsonl): %.diff.jsonl: %.jsonl
	$(DIFF) --baseline random-init --seed $(call seed_of,$@) $(BASE) $* > $@

$(PLACES:%=%/null.diff.jsonl): %.diff.jsonl: %.jsonl
	$(DIFF) $(BASE) $* > $@

# --- some of it ----------------------------------------------------------------------------------------------------

# Records of layerdiff by one of their numbers, the largest first.
ranked = awk -v key='"$1":' '{split($$0, part, key); print part[2] + 0 "\t" $$0}' $< | LC_ALL=C sort -k 1,1gr | cut -f 2-
half = $$(( ($$(wc -l < $<) + 1) / 2 ))

define MOST
$(PLACES:%=%/most-$1.jsonl): %/most-$1.jsonl: %/full.diff.jsonl
	$$(call ranked,$1) | $$(call first,$$(half)) | $$(FINETUNE) $$(ON_DATA) --only - > $$@
endef
$(foreach metric,$(METRICS),$(eval $(call MOST,$(metric))))

$(PLACES:%=%/least-angle.jsonl): %/least-angle.jsonl: %/full.diff.jsonl
	$(call ranked,angle) | tail -n $(half) | $(FINETUNE) $(ON_DATA) --only - > $@

# By lot, which seed and name decide.
names = awk '{split($$0, part, "\"name\":\""); split(part[2], name, "\""); print name[1]}' $<
$(PLACES:%=%/random.jsonl): %/random.jsonl: %/full.diff.jsonl
	$(names) | while read -r name; do printf '%s\t%s\n' "$$(printf '%s %s' $(call seed_of,$@) "$$name" | $(SHA256))" "$$name"; \
	  done | LC_ALL=C sort | cut -f 2 | $(call first,$(half)) | $(FINETUNE) $(ON_DATA) --only - > $@

# The upper and the lower half of the layers.
layers = awk -v above=$1 '{split($$0, part, "\"layer\":"); layer[NR] = part[2] + 0; line[NR] = $$0; if (layer[NR] > last) last = layer[NR]} \
	  END {for (n = 1; n <= NR; n++) if ((layer[n] > (last - 1) / 2) == above) print line[n]}' $<
$(PLACES:%=%/upper.jsonl): %/upper.jsonl: %/full.diff.jsonl
	$(call layers,1) | $(FINETUNE) $(ON_DATA) --only - > $@
$(PLACES:%=%/lower.jsonl): %/lower.jsonl: %/full.diff.jsonl
	$(call layers,0) | $(FINETUNE) $(ON_DATA) --only - > $@

$(foreach group,$(GROUPS),$(PLACES:%=%/group-$(group).jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(FINETUNE) $(ON_DATA) --group $(patsubst group-%.jsonl,%,$(@F)) > $@

$(PLACES:%=%/head.jsonl): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(FINETUNE) $(ON_DATA) --only '$(HEAD)') > $@

# --- which weights to zero -----------------------------------------------------------------------------------------
#
# work/<task>/<seed>/mask-<n>.jsonl: a mask that was learned from n percent of each matrix on; mask-<n>.long.jsonl: one in
# three times the steps; mask-<n>.taught.jsonl: one in as many, with what is tuned in full as a teacher; full.long.jsonl:
# tuned in full in three times the steps, the control of both;
# mask-<n>.<kind>.jsonl: one of the same sparsity at other places, whose head was tuned in as many steps as the first;
# mask-<group>.jsonl: masks of one group.

SPARSITIES ?= 0 5 10 20 40
CONTROLLED ?= 10# of which there are masks that nothing was learned for
CONTROLS   ?= random magnitude
LONG       ?= 10# of which there are masks that were learned in three times the steps
TAUGHT     ?= 10# and such with a teacher
MASK       ?= --batch 16 --lr 1e-3 --refit-head# how to learn; the head's rate
GROUP_MASK ?= --initial-sparsity 0.1
MASK_STEPS ?=# of a task: as many as finetune's, or MASK_STEPS_<task>
SCORE_LR   ?= 0.2# of the scores: slower where tuning is slower
SCORE_LR_cola ?= 0.05
SCORE_LR_stsb ?= 0.05
SCORE_LR_opinion ?= 0.05

MASKS := $(SPARSITIES:%=mask-%) $(GROUPS:%=mask-%)
CONTROL_RUNS := $(foreach kind,$(CONTROLS),$(CONTROLLED:%=mask-%.$(kind)))
LONG_RUNS := $(if $(LONG)$(TAUGHT),full.long) $(LONG:%=mask-%.long) $(TAUGHT:%=mask-%.taught)
mask_steps_of = $(or $(MASK_STEPS_$(call task_of,$1)),$(MASK_STEPS),$(call steps_of,$1))
masks: $(foreach place,$(PLACES),$(foreach run,$(MASKS) $(CONTROL_RUNS) $(LONG_RUNS),$(place)/$(run).jsonl)) overlaps

score_lr_of = $(or $(SCORE_LR_$(call task_of,$1)),$(SCORE_LR))
LEARN = $(BERTTOOLS) mask-tune --base $(BASE) --train $(word 1,$^) --dev $(word 2,$^) --score-lr $(call score_lr_of,$@) \
	  $(MASK) --seed $(call seed_of,$@) $(call metric_of,$@) --force --out $(@:.jsonl=.mask.safetensors)
FOR_STEPS = --max-steps $1 --evaluate-every $1
AS_LONG = $(call FOR_STEPS,$(call mask_steps_of,$@))

share = $$(awk 'BEGIN {print $1 / 100}')
$(foreach n,$(SPARSITIES),$(PLACES:%=%/mask-$(n).jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(LEARN) $(AS_LONG) --initial-sparsity $(call share,$(patsubst mask-%.jsonl,%,$(@F)))) > $@

THRICE = $(call FOR_STEPS,$$((3 * $(call mask_steps_of,$@))))
LEARN_LONG = $(call TIMED,$(LEARN) $(THRICE) \
	  --initial-sparsity $(call share,$(patsubst mask-%$(suffix $(@:.jsonl=)).jsonl,%,$(@F))) $1) > $@

# What masks of three times the steps are measured by: longer tuning is better, too.
$(PLACES:%=%/full.long.jsonl): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(FINETUNE) --train $< $(ALL) $(THRICE)) > $@

$(foreach n,$(LONG),$(PLACES:%=%/mask-$(n).long.jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call LEARN_LONG)

$(foreach n,$(TAUGHT),$(PLACES:%=%/mask-$(n).taught.jsonl)): $$(call data_of,$$@) $$(@D)/full.jsonl
	$(call LEARN_LONG,--distill $(@D)/full)

$(foreach group,$(GROUPS),$(PLACES:%=%/mask-$(group).jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(LEARN) $(AS_LONG) $(GROUP_MASK) --group $(patsubst mask-%.jsonl,%,$(@F))) > $@

# The same zeros at other places, and the head tuned on them.
define CONTROL
$(foreach n,$(CONTROLLED),$(PLACES:%=%/mask-$(n).$1.jsonl)): %.$1.jsonl: %.jsonl
	$$(BERTTOOLS) mask-control $$(BASE) $$*.mask.safetensors --kind $1 --seed $$(call seed_of,$$@) --force \
	  --out $$*.$1.mask.safetensors > $$*.$1.made
	$$(BERTTOOLS) apply-mask $$(BASE) $$*.$1.mask.safetensors --force --out $$*.$1 >> $$*.$1.made
	$$(BERTTOOLS) finetune --base $$*.$1 --dev $$(DATA)/$$(call task_of,$$@)/dev.jsonl $$(TUNE) $$(ON_DATA) --only '$$(HEAD)' \
	  --seed $$(call seed_of,$$@) $$(AS_LONG) $$(call metric_of,$$@) --force > $$@
endef
$(foreach kind,$(CONTROLS),$(eval $(call CONTROL,$(kind))))

# --- what limits a mask --------------------------------------------------------------------------------------------
#
# work/<task>/<seed>/limit-<name>.jsonl: mask-10 with one thing changed, by OPTIONS_<name> of mask-tune, or by
# VARIANT_<name> of mask_variants.py where mask-tune does not do it; limit-<name>.long.jsonl: the same in three times the
# steps. limit-dense.jsonl and limit-norms.jsonl tune weights instead: those of the matrices that are masked, and biases
# and norms. curve-<name>.jsonl: a run in three times the steps that is measured every CURVE_EVERY of them.
# Masks that are joined: the scores between two of them, and of their votes, are printed by mask_paths.py.

LIMITS      ?= far farther magnitude certain threshold topk no-qk from-none head beside magnitude-beside pooler row-scale row-norm \
	  hard sharper momentum dense norms
LIMITS_LONG ?= far certain far-taught certain-taught norms dense
CURVES      ?= full half base certain
CURVE_EVERY ?= 100
JOINED      ?= $(SEEDS)# seeds of the masks that are compared with each other
NORMS       := --beside '[.]bias$$' --beside LayerNorm
OPTIONS_base :=
OPTIONS_magnitude := --distance magnitude
OPTIONS_threshold := --distance magnitude --method threshold --initial-score 0.02 --score-lr 1e-3
TWICE_RATE = $$(awk 'BEGIN {print 2 * $(call score_lr_of,$@)}')
OPTIONS_far = --initial-score 10 --score-lr $(TWICE_RATE)
THRICE_RATE = $$(awk 'BEGIN {print 3 * $(call score_lr_of,$@)}')
OPTIONS_farther = --initial-score 15 --score-lr $(THRICE_RATE)
OPTIONS_certain = --distance magnitude --initial-score 10 --score-lr $(TWICE_RATE)
OPTIONS_far-taught = $(OPTIONS_far) --distill $(@D)/full.long
OPTIONS_certain-taught = $(OPTIONS_certain) --distill $(@D)/full.long
OPTIONS_magnitude-taught = $(OPTIONS_magnitude) --distill $(@D)/full.long
OPTIONS_topk := --distance magnitude --method topk --target-sparsity 0.15 --score-lr 5e-3
OPTIONS_no-qk = $(OPTIONS_certain) --freeze Q,K
OPTIONS_from-none = $(OPTIONS_certain) --initial-sparsity 0
OPTIONS_head := --lr 3e-3
OPTIONS_beside := $(NORMS)
OPTIONS_magnitude-beside := --distance magnitude $(NORMS)
OPTIONS_pooler := --pooler dense
VARIANT_row-scale := row-scale=0.01
VARIANT_row-norm := row-norm=1
VARIANT_hard := hard-from=0.5
VARIANT_sharper := sharper=10
VARIANT_momentum := momentum=1
VARIANTS    ?= $(dir $(lastword $(MAKEFILE_LIST)))../docs/results/scripts/mask_variants.py

.PHONY: limits curves paths
WEIGHTS := dense norms# what tunes weights, no masks
limits: $(foreach place,$(PLACES),$(LIMITS:%=$(place)/limit-%.jsonl) $(LIMITS_LONG:%=$(place)/limit-%.long.jsonl) \
	  $(if $(LIMITS_LONG),$(place)/mask-10.long.jsonl $(place)/full.long.jsonl) $(place)/mask-10.jsonl $(place)/full.jsonl)
curves: $(foreach place,$(PLACES),$(CURVES:%=$(place)/curve-%.jsonl))

# The name of a run without its prefix, and without .long.
name_of = $(patsubst curve-%,%,$(patsubst limit-%,%,$(notdir $(basename $(1:.long.jsonl=.jsonl)))))
LEARN_SOME = $(if $(VARIANT_$(call name_of,$@)),$(PYTHON) $(VARIANTS) $(VARIANT_$(call name_of,$@)) \
	  $(wordlist 3,$(words $(LEARN)),$(LEARN)),$(LEARN)) --initial-sparsity 0.1 $(OPTIONS_$(call name_of,$@))
MASKS_LIMITED := $(filter-out $(WEIGHTS),$(LIMITS))

$(foreach name,$(MASKS_LIMITED),$(PLACES:%=%/limit-$(name).jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(LEARN_SOME) $(AS_LONG)) > $@

$(foreach name,$(filter-out $(WEIGHTS),$(LIMITS_LONG)),$(PLACES:%=%/limit-$(name).long.jsonl)): $$(call data_of,$$@) \
	  $$(if $$(findstring taught,$$@),$$(@D)/full.long.jsonl)
	@mkdir -p $(@D)
	$(call TIMED,$(LEARN_SOME) $(THRICE)) > $@

MATRICES := encoder[.]layer[.][0-9]+[.].*(query|key|value|dense)[.]weight
SOME_dense := --only '$(MATRICES)'
SOME_norms := --lr 1e-3 --only '[.]bias$$' --only LayerNorm
LENGTH = $(if $(findstring .long,$@),$(THRICE))
$(foreach name,$(WEIGHTS),$(PLACES:%=%/limit-$(name).jsonl) $(PLACES:%=%/limit-$(name).long.jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(call TIMED,$(FINETUNE) $(ON_DATA) $(SOME_$(call name_of,$@)) $(LENGTH)) > $@

OFTEN = --max-steps $$((3 * $(call mask_steps_of,$@))) --evaluate-every $(CURVE_EVERY)
$(PLACES:%=%/curve-full.jsonl): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(FINETUNE) --train $< $(ALL) $(OFTEN) > $@
$(PLACES:%=%/curve-half.jsonl): %/curve-half.jsonl: %/full.diff.jsonl
	$(call ranked,angle) | $(call first,$(half)) | $(FINETUNE) $(ON_DATA) $(OFTEN) --only - > $@
$(foreach name,$(filter-out full half,$(CURVES)),$(PLACES:%=%/curve-$(name).jsonl)): $$(call data_of,$$@)
	@mkdir -p $(@D)
	$(LEARN_SOME) $(OFTEN) > $@

# Are masks of several seeds one solution? On the first task.
paths: $(WORK)/$(firstword $(TASKS))/paths.md
$(WORK)/$(firstword $(TASKS))/paths.md: $(JOINED:%=$(WORK)/$(firstword $(TASKS))/%/mask-$(firstword $(CONTROLLED)).jsonl)
	$(PYTHON) $(dir $(VARIANTS))mask_paths.py $(BASE) $(DATA)/$(firstword $(TASKS))/dev.jsonl \
	  $(^:.jsonl=.mask.safetensors) > $@

# Many good solutions? What every two masks of all groups have in common: of other seeds, sparsities and tasks.
ALL_MASKS := $(foreach place,$(PLACES),$(SPARSITIES:%=$(place)/mask-%.jsonl))
overlaps: $(WORK)/overlaps.jsonl
$(WORK)/overlaps.jsonl: $(ALL_MASKS)
	$(BERTTOOLS) maskdiff --by model --base $(BASE) $(ALL_MASKS:.jsonl=.mask.safetensors) > $@
