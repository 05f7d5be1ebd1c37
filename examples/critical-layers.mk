# Which matrices to tune, if they are chosen before any tuning: criteria beside draws at random, at equal budgets.
#
#   make -f examples/critical-layers.mk BASE=minilm DATA=glue         figures of every run in work/<task>/<seed>/
#   make -f examples/critical-layers.mk BASE=minilm DATA=glue check   the figures, ranked, on the terminal
#   make -f examples/critical-layers.mk BASE=minilm DATA=glue TASKS=sst2 SEEDS=0 BUDGETS='10 25'
#
# DATA holds <task>/train.jsonl and <task>/dev.jsonl. Of each task and seed every criterion ranks the matrices of BASE,
# and the first 5, 10, 25 and 50% of them are tuned, and the head; so are as many that were drawn at random, several
# times, the topmost ones, and those that moved most when all was tuned. Every run makes the same number of steps and is
# measured once, at its end. What is there is not made again: a run that was cut off goes on with the next. Runs of one
# budget are made one after the other, so that there is a table at any time:
# docs/results/scripts/chosen_layers.py work. make does not see variables: after a change of one, remove what it made.

BASE      ?= base
DATA      ?= glue
WORK      ?= work
BERTTOOLS ?= berttools
SHA256    ?= sha256sum

TASKS     ?= sst2 cola stsb rte wnli
SEEDS     ?= 0 1 2
BUDGETS   ?= 10 25 5 50# per cent of the matrices
CRITERIA  ?= fisher grad cosine lift moved top# also fisher-fitted and grad-fitted: the head is fitted first
DRAWS     ?= 1 2 3
LIKE      ?=# criteria of which there are draws with the same groups (Q, I, ...) and layers at random

FIRST     ?= 4000# lines of a task's texts that are used
SCORE     ?= --texts 256# of score-layers by texts
FIT       ?= 100# steps in which a head is fitted first

# How to tune: the same for every choice of a budget. The fewer matrices are tuned, the further each must move.
TUNE      ?= --batch 16 --head-lr 1e-3
LR        ?= 2e-4
LR_5      ?= 4e-4
LR_10     ?= 4e-4
LR_full   ?= 2e-4
STEPS     ?= 200
STEPS_wnli ?= 100
METRIC_cola ?= matthews

# A pipe fails where any of its commands does (.SHELLFLAGS: GNU make 3.82 or later). What takes the first lines of many
# reads the rest too: a command whose reader goes away fails.
SHELL := bash
.SHELLFLAGS := -o pipefail -c
first = awk -v most="$1" 'NR <= most'

.DELETE_ON_ERROR:
.SUFFIXES:
.SECONDARY:
.PHONY: all check
.DEFAULT_GOAL := all

LIKES := $(foreach criterion,$(LIKE),$(DRAWS:%=like-$(criterion)-%))
CHOICES := $(CRITERIA) $(DRAWS:%=random-%) $(LIKES)
PLACES := $(foreach task,$(TASKS),$(SEEDS:%=$(WORK)/$(task)/%))
RESULTS := $(foreach place,$(PLACES),$(foreach budget,$(BUDGETS),$(CHOICES:%=$(place)/%.$(budget).jsonl)))

all: $(RESULTS)

# First the metric, then what was tuned of how much, and where it is.
check: $(RESULTS)
	@for task in $(TASKS); do tail -qn 1 $(WORK)/$$task/*/*.[0-9]*.jsonl | LC_ALL=C sort -r; done

# Of work/<task>/<seed>/<choice>.<budget>.jsonl.
seed_of = $(notdir $(patsubst %/,%,$(dir $1)))
task_of = $(notdir $(patsubst %/,%,$(dir $(patsubst %/,%,$(dir $1)))))
steps_of = $(or $(STEPS_$(call task_of,$1)),$(STEPS))
metric_of = $(if $(METRIC_$(call task_of,$1)),--metric $(METRIC_$(call task_of,$1)))
texts_of = $(WORK)/$(call task_of,$1)/train.jsonl
FINETUNE = $(BERTTOOLS) finetune --base $(BASE) --train $(call texts_of,$@) --dev $(DATA)/$(call task_of,$@)/dev.jsonl \
	  $(TUNE) --seed $(call seed_of,$@) --force \
	  --max-steps $(call steps_of,$@) --evaluate-every $(call steps_of,$@) $(call metric_of,$@)

$(TASKS:%=$(WORK)/%/train.jsonl): $(WORK)/%/train.jsonl: $(DATA)/%/train.jsonl
	@mkdir -p $(@D)
	$(call first,$(FIRST)) $< > $@

.SECONDEXPANSION:

# --- rankings, the first to tune first -----------------------------------------------------------------------------

best_first = LC_ALL=C sort -r > $@
RANK = $(BERTTOOLS) score-layers --base $(BASE) --seed $(call seed_of,$@)

define BY_TEXTS
$(PLACES:%=%/$1.rank.jsonl): $$$$(call texts_of,$$$$@)
	@mkdir -p $$(@D)
	$$(RANK) --train $$< $$(SCORE) --by $2 | $$(best_first)
endef
$(eval $(call BY_TEXTS,fisher,fisher))
$(eval $(call BY_TEXTS,grad,grad))
$(eval $(call BY_TEXTS,cosine,cosine))
$(eval $(call BY_TEXTS,fisher-fitted,fisher --fit-head $(FIT)))
$(eval $(call BY_TEXTS,grad-fitted,grad --fit-head $(FIT)))

$(PLACES:%=%/lift.rank.jsonl): $(BASE)
	@mkdir -p $(@D)
	$(RANK) --by lift | $(best_first)

# What moved most when all was tuned: this needs a tuning, and is what the others are to save.
$(PLACES:%=%/full.jsonl): $$(call texts_of,$$@)
	@mkdir -p $(@D)
	$(FINETUNE) --lr $(LR_full) --out $(@:.jsonl=) > $@

$(PLACES:%=%/moved.rank.jsonl): %/moved.rank.jsonl: %/full.jsonl
	$(BERTTOOLS) layerdiff --matrices $(BASE) $*/full | $(best_first)
	rm -r $*/full

# From the last layer down; within a layer in the order of names, as sort -r has what ranks alike.
layer = awk '{split($$0, part, "\"layer\":"); split($$0, name, "\"name\":"); print part[2] + 0 "\t" name[2] "\t" $$0}' $<
$(PLACES:%=%/top.rank.jsonl): %/top.rank.jsonl: %/lift.rank.jsonl
	$(layer) | LC_ALL=C sort -t '	' -k 1,1nr -k 2,2r | cut -f 3- > $@

# At random, which seed, draw and name decide.
names = awk '{split($$0, part, "\"name\":\""); split(part[2], name, "\""); print name[1]}' $<
define AT_RANDOM
$(PLACES:%=%/random-$1.rank.jsonl): %/random-$1.rank.jsonl: %/lift.rank.jsonl
	$$(names) | while read -r name; do \
	  printf '%s\t%s\n' "$$$$(printf '%s %s %s' $$(call seed_of,$$@) $1 "$$$$name" | $$(SHA256))" "$$$$name"; done \
	  | LC_ALL=C sort | cut -f 2 > $$@
endef
$(foreach draw,$(DRAWS),$(eval $(call AT_RANDOM,$(draw))))

# The groups that a criterion ranks, each time with a matrix of that group which was drawn: what of a ranking is layers?
define SAME_GROUPS
{split($$0, part, "\"name\":\""); split(part[2], name, "\""); split($$0, rest, "\"group\":\""); split(rest[2], kind, "\"")}
FNR == 1 {file++}
file == 1 {group[name[1]] = kind[1]}
file == 2 {drawn[group[$$0], ++many[group[$$0]]] = $$0}
file == 3 {print drawn[group[name[1]], ++taken[group[name[1]]]]}
endef
export SAME_GROUPS
define LIKE_IT
$(PLACES:%=%/like-$1-$2.rank.jsonl): %/like-$1-$2.rank.jsonl: %/lift.rank.jsonl %/random-$2.rank.jsonl %/$1.rank.jsonl
	awk "$$$$SAME_GROUPS" $$^ > $$@
endef
$(foreach criterion,$(LIKE),$(foreach draw,$(DRAWS),$(eval $(call LIKE_IT,$(criterion),$(draw)))))

# --- the first of each are tuned -----------------------------------------------------------------------------------

count = $$(( ($$(wc -l < $<) * $1 + 50) / 100 ))
define TUNED
$(PLACES:%=%/$1.$2.jsonl): %/$1.$2.jsonl: %/$1.rank.jsonl
	$$(call first,$$(call count,$2)) $$< | $$(FINETUNE) --lr $(or $(LR_$2),$(LR)) --only - --save delta \
	  --out $$(@:.jsonl=.delta.safetensors) > $$@
	rm $$(@:.jsonl=.delta.safetensors)
endef
$(foreach choice,$(CHOICES),$(foreach budget,$(BUDGETS),$(eval $(call TUNED,$(choice),$(budget)))))
