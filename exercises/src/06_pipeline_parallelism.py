# %% [markdown]
# # 06 Pipeline parallelism: exercises
#
# Four exercises, about 60 minutes. They go with
# [lesson 06](../notebooks/06_pipeline_parallelism.ipynb).

# %% [markdown]
# Write a function in place of `raise NotImplementedError`, run its cell, then the check below it.
# The hints unfold, one inside the other; the last shows another problem solved. Ranks, stages,
# layers and micro-batches count from 0.

# %%
from d2lpart import Decoder, Pipeline, Schedule, build_schedule, corpus, ranking, simulate
from d2lpart.course import check, hints
from d2lpart.timelines.simulator import undisturbed

# %% [markdown]
# ## Exercise 06.1 ● (5 minutes): The bubble formula
#
# `p` even ranks, `m` micro-batches, `v` stages a rank, interleaved where `v` is more than 1. `m` is a
# multiple of `p` then. Write `bubble(p, m, v)`: the idle part of the step, idle/total.
#
# `bubble(4, 8, 1)` is 3/11 (a part, not a percentage).

# %%
hints("06.1")

# %% [markdown]
# Write it here:

# %%
def bubble(p, m, v):
    """The idle part of the step (idle/total), p even ranks, m micro-batches, v stages a rank."""
    ### BEGIN SOLUTION
    return (p - 1) / (v * m + p - 1)
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 06.1
# MISCONCEPTION: idle/ideal
# EXPECT: idle/ideal
def bubble(p, m, v):
    return (p - 1) / (m * v)

# %% tags=["wrong-answer"]
# EXERCISE: 06.1
# MISCONCEPTION: as many ranks as stages
# EXPECT: stages live on
def bubble(p, m, v):
    ranks = p * v
    return (ranks - 1) / (m + ranks - 1)

# %% tags=["wrong-answer"]
# EXERCISE: 06.1
# MISCONCEPTION: interleaving changes nothing
# EXPECT: That is one stage a rank
def bubble(p, m, v):
    return (p - 1) / (m + p - 1)

# %% tags=["wrong-answer"]
# EXERCISE: 06.1
# MISCONCEPTION: divides the idle part by v
# EXPECT: The step is shorter, too
def bubble(p, m, v):
    return (p - 1) / (m + p - 1) / v

# %% tags=["wrong-answer"]
# EXERCISE: 06.1
# MISCONCEPTION: percent
# EXPECT: That is in %
def bubble(p, m, v):
    return 100 * (p - 1) / (v * m + p - 1)

# %% tags=["right-answer"]
# EXERCISE: 06.1
def bubble(p, m, v):
    return round((p - 1) / (v * m + p - 1), 3)

# %% tags=["right-answer"]
# EXERCISE: 06.1
def bubble(p, m, v):
    work, blank = m, (p - 1) / v
    return blank / (work + blank)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("06.1", bubble)
result

# %% [markdown]
# Your formula beside the simulator, for four ranks:

# %% tags=["nbval-check-output"]
bubble = result.or_reference()

for m, v in [(4, 1), (8, 1), (8, 2), (8, 4), (32, 1)]:
    step = simulate(build_schedule("interleaved", 4, m, chunks=v), {"F": 1 / v, "B": 2 / v})
    print(f"m = {m:2}, v = {v}: formula {bubble(4, m, v):.1%}, simulated {step.idle_fraction():.1%}")

# %% [markdown]
# ## Exercise 06.2 ● (10 minutes): What a rank holds
#
# The order of one rank is a list such as `["F0", "F1", "B0", "F2", "B1", "B2"]`. From its F to its B a
# micro-batch's activations are held; the backwards may come in any order. Write `most_held(order)`: how
# many micro-batches are held at the same time at most.
#
# The example gives 2.

# %%
hints("06.2")

# %% [markdown]
# Write it here:

# %%
def most_held(order):
    """The most micro-batches that a rank holds at once, from its order such as F0 F1 B0 B1."""
    ### BEGIN SOLUTION
    held = most = 0
    for action in order:
        held += 1 if action[0] == "F" else -1
        most = max(most, held)
    return most
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 06.2
# MISCONCEPTION: nothing is let go
# EXPECT: A backward lets its micro-batch go
def most_held(order):
    return len({action[1:] for action in order})

# %% tags=["wrong-answer"]
# EXERCISE: 06.2
# MISCONCEPTION: only what runs ahead at the start
# EXPECT: forwards before the first backward
def most_held(order):
    return [action[0] for action in order].index("B")

# %% tags=["wrong-answer"]
# EXERCISE: 06.2
# MISCONCEPTION: looks when one has just been let go
# EXPECT: You look right behind a backward
def most_held(order):
    held, seen = 0, [0]
    for action in order:
        if action[0] == "F":
            held += 1
        else:
            held -= 1
            seen.append(held)
    return max(seen)

# %% tags=["wrong-answer"]
# EXERCISE: 06.2
# MISCONCEPTION: looks before a forward has added its own
# EXPECT: or right before a forward
def most_held(order):
    held = most = 0
    for action in order:
        if action[0] == "F":
            most = max(most, held)
        held += 1 if action[0] == "F" else -1
    return most

# %% tags=["wrong-answer"]
# EXERCISE: 06.2
# MISCONCEPTION: takes the first in for the first out
# EXPECT: Walk through
def most_held(order):
    most, last = 0, -1
    for kind, *k in order:
        number = int("".join(k))
        if kind == "F":
            most = max(most, number - last)
        else:
            last = number
    return most

# %% tags=["right-answer"]
# EXERCISE: 06.2
def most_held(order):
    held, sizes = set(), []
    for action in order:
        held ^= {action[1:]}
        sizes.append(len(held))
    return max(sizes)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("06.2", most_held)
result

# %% [markdown]
# GPipe against 1F1B, rank by rank:

# %% tags=["nbval-check-output"]
most_held = result.or_reference()

for name in ("gpipe", "1f1b"):
    orders = build_schedule(name, 4, 16).orders
    lanes = [[f"{action.kind}{action.microbatch}" for action in order] for order in orders]
    print(f"{name:6} holds", [most_held(lane) for lane in lanes])

# %% [markdown]
# ## Exercise 06.3 ●● (10 minutes): Who has which layers
#
# An interleaved pipeline cuts the layers into `p * v` stages, equally long, and deals the *stages* out:
# stage `s` to rank `s % p`. Write `interleaved_layers(num_layers, p, v)`: for each rank the list of its
# layers, in order. `num_layers` is a multiple of `p * v`.
#
# `interleaved_layers(12, 3, 2)` is `[[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]`. Try
# `interleaved_layers(12, 3, 4)`, too: you have met it in lesson 04.

# %%
hints("06.3")

# %% [markdown]
# Write it here:

# %%
def interleaved_layers(num_layers, p, v):
    """The layers of each rank, v stages a rank; num_layers is a multiple of p·v."""
    ### BEGIN SOLUTION
    each = num_layers // (p * v)
    stages = [list(range(s * each, (s + 1) * each)) for s in range(p * v)]
    return [[layer for s in range(r, p * v, p) for layer in stages[s]] for r in range(p)]
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 06.3
# MISCONCEPTION: one run a rank
# EXPECT: You give each rank one run
def interleaved_layers(num_layers, p, v):
    each = num_layers // p
    return [list(range(r * each, (r + 1) * each)) for r in range(p)]

# %% tags=["wrong-answer"]
# EXERCISE: 06.3
# MISCONCEPTION: deals the layers out
# EXPECT: You deal the layers out one by one
def interleaved_layers(num_layers, p, v):
    return [list(range(r, num_layers, p)) for r in range(p)]

# %% tags=["right-answer"]
# EXERCISE: 06.3
def interleaved_layers(num_layers, p, v):
    each = num_layers // (p * v)
    ranks = [[] for _ in range(p)]
    for layer in range(num_layers):
        ranks[layer // each % p].append(layer)
    return tuple(tuple(layers) for layers in ranks)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("06.3", interleaved_layers)
result

# %% [markdown]
# How often does the data change rank, and what is it worth? 12 layers on 3 ranks, 6 micro-batches:

# %% tags=["nbval-check-output"]
interleaved_layers = result.or_reference()

for v in (1, 2, 4):
    rank_of = {layer: r for r, own in enumerate(interleaved_layers(12, 3, v)) for layer in own}
    crossings = sum(rank_of[layer] != rank_of[layer + 1] for layer in range(11))
    step = simulate(build_schedule("interleaved", 3, 6, chunks=v), {"F": 1 / v, "B": 2 / v})
    print(f"v = {v}: {crossings:2} crossings, idle {step.idle_fraction():.1%}, rank 0 holds "
          f"{step.peak_in_flight(0):.2f}")

# %% [markdown]
# ## Exercise 06.4 ●●● (35 minutes): Beat 1F1B
#
# Write a schedule of your own. `my_schedule(p, m)` returns one list of actions a rank, one stage a
# rank, for `m` micro-batches with `m >= p >= 2`: `"1F0"` is the forward of stage 1 for micro-batch 0,
# `"1B0"` its whole backward; in place of a B you may write its halves, I and later W. F, I and W take
# 1 s each, B takes 2 s, messages no time. It must
#
# - be legal,
# - hold no more than `p` micro-batches on any rank at any time (1F1B's rank 0 holds as many); a
#   micro-batch is held from its F until its B or W,
# - take less time than 1F1B.
#
# Par is the best named schedule with one stage a rank that keeps to this memory. The check says how far
# you are from it.

# %%
hints("06.4")

# %% [markdown]
# Here is 1F1B to begin with. Look for the blanks.

# %% tags=["nbval-check-output"]
start = build_schedule("1f1b", 3, 5)
print(start)
print(simulate(start, {"F": 1, "B": 2}))

# %% [markdown]
# Write it here:

# %%
def my_schedule(p, m):
    """Orders of F, I and W for p ranks, shorter than 1F1B; no rank holds more than p at once."""
    ### BEGIN SOLUTION
    orders = []
    for r in range(p):
        order = []
        for k in range(r + 1 - p, m + r):
            if k + p - 1 - r < m:
                order.append(f"{r}F{k + p - 1 - r}")
            if 0 <= k < m:
                order.append(f"{r}I{k}")
            if 0 <= k - r < m:
                order.append(f"{r}W{k - r}")
        orders.append(order)
    return orders
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 06.4
# MISCONCEPTION: 1F1B itself
# EXPECT: That is 1F1B itself
def my_schedule(p, m):
    return [list(map(str, order)) for order in build_schedule("1f1b", p, m).orders]

# %% tags=["wrong-answer"]
# EXERCISE: 06.4
# MISCONCEPTION: all forwards first
# EXPECT: are allowed
def my_schedule(p, m):
    return [list(map(str, order)) for order in build_schedule("gpipe", p, m).orders]

# %% tags=["wrong-answer"]
# EXERCISE: 06.4
# MISCONCEPTION: runs as far ahead as ZB-H2
# EXPECT: That is ZB-H2
def my_schedule(p, m):
    return [list(map(str, order)) for order in build_schedule("zb-h2", p, m).orders]

# %% tags=["wrong-answer"]
# EXERCISE: 06.4
# MISCONCEPTION: every rank runs as far ahead as rank 0
# EXPECT: waits for 1I0 on rank 1
def my_schedule(p, m):
    orders = []
    for r in range(p):
        order = [f"{r}F{k}" for k in range(p)]
        for k in range(m):
            order += [f"{r}I{k}", f"{r}W{k}"] + [f"{r}F{k + p}"] * (k + p < m)
        orders.append(order)
    return orders

# %% tags=["wrong-answer"]
# EXERCISE: 06.4
# MISCONCEPTION: one list for all ranks
# EXPECT: one list of actions a rank
def my_schedule(p, m):
    return [f"{r}F{k}" for r in range(p) for k in range(m)]

# %% tags=["right-answer"]
# EXERCISE: 06.4
def my_schedule(p, m):
    orders = []
    for order in build_schedule("1f1b", p, m).orders:
        mine = []
        for stage, kind, k in order:
            mine += [f"{stage}F{k}"] if kind == "F" else [f"{stage}I{k}", f"{stage}W{k}"]
        orders.append(mine)
    return orders

# %% tags=["right-answer"]
# EXERCISE: 06.4
def my_schedule(p, m):
    return [" ".join(map(str, order)) for order in build_schedule("zb-h1", p, m).orders]

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("06.4", my_schedule)
result

# %% [markdown]
# Where it stands among the named schedules, and now it runs: a decoder on four ranks, your order, on the
# virtual clock, each action as fast as in the fastest of five steps. The loss is that of any other order.

# %%
my_schedule = result.or_reference()

mine = Schedule(my_schedule(4, 8), range(4), "mine")
print(ranking(mine, {"F": 1, "I": 1, "W": 1}, most_held=4, chunks=1))

decoder = Decoder(vocab_size=256, width=64, num_layers=6, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=16, context=32))
for schedule in (build_schedule("1f1b", 4, 8), mine):
    pipeline = Pipeline(decoder, [2, 2, 2, 2], ["cpu"] * 4, schedule=schedule, clock="virtual")
    first, *steps = [pipeline.step(inputs, targets) for _ in range(6)]
    timeline = undisturbed(step.timeline for step in steps)
    print(f"{schedule.name:5} idle {timeline.idle_fraction():.1%}, "
          f"fullest rank {max(first.peak_bytes) / 1e6:.2f} MB, loss {first.loss:.4f}")
timeline
