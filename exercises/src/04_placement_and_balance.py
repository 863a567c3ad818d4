# %% [markdown]
# # 04 Placement and balance: exercises
#
# About 50 minutes. The lesson is [04_placement_and_balance.ipynb](../notebooks/04_placement_and_balance.ipynb).

# %% [markdown]
# Write each function in place of `raise NotImplementedError`, run its cell, then the check below it. A check that fails shows the smallest case it found and one sentence to go on with. Ranks, stages and layers count from 0. The hints unfold, one inside the other; each says more than the one before, and the last shows another problem solved.

# %%
from itertools import combinations, pairwise
from math import comb

from d2lpart import Partition, build_schedule, check_placement, figures, partition, simulate
from d2lpart.course import check, hints

# %% [markdown]
# ## Exercise 04.1 ● (5 minutes): crossings of a placement
#
# A placement names the device of each layer. Write `crossings(placement)`: how many pairs of neighbouring layers lie on different devices.
#
# `crossings([0, 0, 1, 1, 2, 2])` is 2. There is at least one layer.

# %%
hints("04.1")

# %% [markdown]
# Write it here:

# %%
def crossings(placement):
    """How many pairs of neighbouring layers lie on different devices."""
    ### BEGIN SOLUTION
    return sum(a != b for a, b in pairwise(placement))
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: as many crossings as devices, less one
# EXPECT: comes back to a device that it has left
def crossings(placement):
    return len(set(placement)) - 1

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: every pair of neighbours crosses
# EXPECT: A pair on one device crosses nothing
def crossings(placement):
    return len(placement) - 1

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: going back to an earlier device is free
# EXPECT: The way back to a lower one is a crossing
def crossings(placement):
    return sum(b > a for a, b in pairwise(placement))

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: counts the groups
# EXPECT: Crossings lie between groups
def crossings(placement):
    groups = 1
    for a, b in pairwise(placement):
        groups += a != b
    return groups

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: counts messages, forward and backward
# EXPECT: A crossing has two of them
def crossings(placement):
    return 2 * sum(a != b for a, b in pairwise(placement))

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: the index -1 is the last layer
# EXPECT: Nothing passes between these two
def crossings(placement):
    count = 0
    for layer in range(len(placement)):
        if placement[layer] != placement[layer - 1]:
            count += 1
    return count

# %% tags=["wrong-answer"]
# EXERCISE: 04.1
# MISCONCEPTION: a longer way is more than one crossing
# EXPECT: From device 2 to device 0 is one crossing
def crossings(placement):
    return sum(abs(a - b) for a, b in pairwise(placement))

# %% tags=["right-answer"]
# EXERCISE: 04.1
def crossings(placement):
    count, here = 0, placement[0]
    for device in placement:
        if device != here:
            count, here = count + 1, device
    return count

# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("04.1", crossings)
result

# %% [markdown]
# Twelve layers on three devices can be placed in 3¹² = 531,441 ways. How many crossings has a placement drawn by lot? Each of 11 pairs differs with probability 2/3. And how rare are the layer-based partitions among them?

# %% tags=["nbval-check-output"]
import random

count, rng = result.or_reference(), random.Random(0)
drawn = [[rng.randrange(3) for _ in range(12)] for _ in range(2000)]
print(f"mean of {len(drawn)}: {sum(map(count, drawn)) / len(drawn):.2f} crossings; expected {11 * 2 / 3:.2f}")
print("layer-based partitions among them:", sum(check_placement(p, 3).ok for p in drawn))
print(f"in all: {6 * len(list(combinations(range(11), 2)))} of {3**12:,}")

# %% [markdown]
# ## Exercise 04.2 ● (8 minutes): the step of uneven stages
#
# `loads` are the seconds that one micro-batch takes on each stage, forward and backward together. On every stage the forward is the same share of it. Write `step_seconds(loads, num_microbatches)`: the seconds of a GPipe step, with transfers that cost nothing.
#
# Three stages of 2 s and four micro-batches take 12 s. Try it from scratch before you look the formula up: draw two stages, loads 1 and 3, three micro-batches.

# %%
hints("04.2")

# %% [markdown]
# Write it here:

# %%
def step_seconds(loads, num_microbatches):
    """The seconds of a GPipe step with these stages."""
    ### BEGIN SOLUTION
    return sum(loads) + (num_microbatches - 1) * max(loads)
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 04.2
# MISCONCEPTION: a micro-batch waits until the one before is through
# EXPECT: While one is on stage 1, the next can be on stage 0
def step_seconds(loads, num_microbatches):
    return num_microbatches * sum(loads)

# %% tags=["wrong-answer"]
# EXERCISE: 04.2
# MISCONCEPTION: only the slowest stage counts
# EXPECT: before its first micro-batch
def step_seconds(loads, num_microbatches):
    return num_microbatches * max(loads)

# %% tags=["wrong-answer"]
# EXERCISE: 04.2
# MISCONCEPTION: counts the first micro-batch twice
# EXPECT: One micro-batch needs
def step_seconds(loads, num_microbatches):
    return sum(loads) + num_microbatches * max(loads)

# %% tags=["wrong-answer"]
# EXERCISE: 04.2
# MISCONCEPTION: the formula of even stages, with the largest load
# EXPECT: as slow as the slowest
def step_seconds(loads, num_microbatches):
    return (num_microbatches + len(loads) - 1) * max(loads)

# %% tags=["wrong-answer"]
# EXERCISE: 04.2
# MISCONCEPTION: the formula of even stages, with the mean load
# EXPECT: moves at the pace of its slowest stage
def step_seconds(loads, num_microbatches):
    return (num_microbatches + len(loads) - 1) * sum(loads) / len(loads)

# %% tags=["right-answer"]
# EXERCISE: 04.2
def step_seconds(loads, num_microbatches):
    free = [0.0] * len(loads)  # when each stage has finished its last micro-batch
    for _ in range(num_microbatches):
        done = 0.0
        for stage, load in enumerate(loads):
            done = free[stage] = max(done, free[stage]) + load
    return done

# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("04.2", step_seconds)
result

# %% [markdown]
# Hold your formula against the simulator, which knows only what waits for what; then see from how many micro-batches on a good cut pays.

# %% tags=["nbval-check-output"]
step, costs = result.or_reference(), [1] + [10] * 12 + [40]
cuts = {"by count": Partition([3, 4, 4, 3]).loads(costs), "best": partition(costs, 4).loads(costs)}
for name, loads in cuts.items():
    durations = [{"F": load / 3, "B": 2 * load / 3} for load in loads]
    placed = simulate(build_schedule("gpipe", 4, 8), durations)
    print(f"{name}: formula {step(loads, 8):.0f} s, simulator {placed.makespan:.0f} s")
numbers = [1, 2, 4, 8, 16, 32, 64]
gain = [step(cuts["by count"], m) / step(cuts["best"], m) for m in numbers]
figures.curves(
    numbers, {"by count / best": gain, "bottlenecks, 60 / 41": [60 / 41] * 7},
    xlabel="micro-batches", ylabel="ratio of the steps", markers=["by count / best"],
    description=f"The ratio rises from {gain[0]:.2f} for 1 micro-batch to {gain[-1]:.2f} for 64.",
)

# %% [markdown]
# ## Exercise 04.3 ●● (15 minutes): the best cut
#
# Write `best_sizes(costs, num_stages)`: a list with the number of layers of each stage, such that the largest load is as small as it can be. Each stage has at least one layer. Where several cuts are equally good, any of them will do.
#
# For `[4, 4, 4, 4] + [1] * 8` and 3 stages, `[2, 2, 8]` is right. There are at most twelve layers in each case, so you may try every cut. (`partition` would do it; write it without.)

# %%
hints("04.3")

# %% [markdown]
# Write it here:

# %%
def best_sizes(costs, num_stages):
    """The layers of each stage, with the smallest bottleneck there is: a list."""
    ### BEGIN SOLUTION
    choices = combinations(range(1, len(costs)), num_stages - 1)
    ways = [[b - a for a, b in pairwise((0, *cuts, len(costs)))] for cuts in choices]
    return min(ways, key=lambda sizes: Partition(sizes).bottleneck(costs))
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: equal counts
# EXPECT: You count layers
def best_sizes(costs, num_stages):
    each, more = divmod(len(costs), num_stages)
    return [each + 1] * more + [each] * (num_stages - more)

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: equal counts, and the last stage takes the rest
# EXPECT: all that is left over
def best_sizes(costs, num_stages):
    each = len(costs) // num_stages
    return [each] * (num_stages - 1) + [len(costs) - each * (num_stages - 1)]

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: fills stages up to the right limit, and leaves some without layers
# EXPECT: leave one layer for each that follows
def best_sizes(costs, num_stages):
    def filled(limit):
        sizes, load = [0], 0
        for cost in costs:
            if load + cost > limit:
                sizes, load = sizes + [0], 0
            sizes[-1], load = sizes[-1] + 1, load + cost
        return sizes

    limit = max(costs)
    while len(filled(limit)) > num_stages:
        limit += 1
    return filled(limit)

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: fills each stage up to the mean
# EXPECT: You close a stage before it exceeds the mean
def best_sizes(costs, num_stages):
    mean, sizes, load = sum(costs) / num_stages, [0], 0
    for cost in costs:
        if sizes[-1] and load + cost > mean and len(sizes) < num_stages:
            sizes, load = sizes + [0], 0
        sizes[-1], load = sizes[-1] + 1, load + cost
    return sizes

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: fills each stage up to the mean of what is left
# EXPECT: have you compared all
def best_sizes(costs, num_stages):
    sizes, first = [], 0
    for stages in range(num_stages, 1, -1):
        mean, end = sum(costs[first:]) / stages, first + 1
        while end < len(costs) - stages + 1 and sum(costs[first:end]) + costs[end] / 2 <= mean:
            end += 1
        sizes, first = sizes + [end - first], end
    return sizes + [len(costs) - first]

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: sorts the layers
# EXPECT: The order of the layers is given
def best_sizes(costs, num_stages):
    return list(partition(sorted(costs), num_stages).sizes)

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: closes a stage once it has reached the mean
# EXPECT: stage, not 2
def best_sizes(costs, num_stages):
    sizes, load = [0], 0
    for cost in costs:
        if load >= sum(costs) / num_stages:
            sizes, load = sizes + [0], 0
        sizes[-1], load = sizes[-1] + 1, load + cost
    return sizes

# %% tags=["wrong-answer"]
# EXERCISE: 04.3
# MISCONCEPTION: returns where the stages begin
# EXPECT: layers, there are
def best_sizes(costs, num_stages):
    sizes = partition(costs, num_stages).sizes
    return [sum(sizes[:stage]) + 1 for stage in range(num_stages)]

# %% tags=["right-answer"]
# EXERCISE: 04.3
def best_sizes(costs, num_stages):
    return [float(size) for size in partition(costs, num_stages).sizes]

# %% tags=["right-answer"]
# EXERCISE: 04.3
def best_sizes(costs, num_stages):
    def best(first, stages):  # of the layers from `first` on: (bottleneck, sizes)
        if stages == 1:
            return sum(costs[first:]), [len(costs) - first]
        found = []
        for end in range(first + 1, len(costs) - stages + 2):
            rest, sizes = best(end, stages - 1)
            found.append((max(sum(costs[first:end]), rest), [end - first] + sizes))
        return min(found)

    return best(0, num_stages)[1]

# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("04.3", best_sizes)
result

# %% [markdown]
# Real shapes: a block of width *h* multiplies by about 12·h² weights, the head by V·h. In GPT-2 the head weighs more than five blocks, in GPT-3 not even half a block. (Attention's pairs of positions are left out.)

# %% tags=["nbval-check-output"]
cut = result.or_reference()
for name, (width, blocks, stages) in {"GPT-2": (768, 12, 4), "GPT-3": (12288, 96, 8)}.items():
    head = 50257 * width / (12 * width**2)
    weights = [0] + [1] * blocks + [head]
    sizes = list(partition(weights, stages).sizes) if blocks > 12 else cut(weights, stages)
    print(f"{name}: a head weighs {head:.2f} blocks; {stages} stages of {sizes}, "
          f"the best of {comb(blocks + 1, stages - 1):,} cuts")

# %% [markdown]
# (The 98 layers of GPT-3 go to `partition`: there are too many cuts. Trying them all is a test, not a method.)
#
# ## Exercise 04.4 ●●● (20 minutes): the best cut that fits
#
# Now each layer needs memory, too, and a device has `capacity` of it. Write `fitting_sizes(costs, memory, capacity, num_stages)`: of the cuts in which every stage fits, one with the smallest bottleneck in time. Where no cut fits, an empty list.
#
# `fitting_sizes([1, 2, 2, 4], [4, 2, 2, 4], 6, 2)` is `[2, 2]`: the faster `[3, 1]` needs 8 in its first stage. Full is allowed: a stage that needs 6 fits into 6.

# %%
hints("04.4")

# %% [markdown]
# Write it here:

# %%
def fitting_sizes(costs, memory, capacity, num_stages):
    """The best sizes of which every stage fits; an empty list where none fit."""
    ### BEGIN SOLUTION
    choices = combinations(range(1, len(costs)), num_stages - 1)
    ways = [[b - a for a, b in pairwise((0, *cuts, len(costs)))] for cuts in choices]
    fitting = [sizes for sizes in ways if Partition(sizes).bottleneck(memory) <= capacity]
    return min(fitting, key=lambda sizes: Partition(sizes).bottleneck(costs), default=[])
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: forgets the memory
# EXPECT: whether it fits or not
def fitting_sizes(costs, memory, capacity, num_stages):
    return list(partition(costs, num_stages).sizes)

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: gives up when the fastest cut does not fit
# EXPECT: and you give up
def fitting_sizes(costs, memory, capacity, num_stages):
    sizes = list(partition(costs, num_stages).sizes)
    return sizes if max(Partition(sizes).loads(memory)) <= capacity else []

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: makes the memory even instead of the time
# EXPECT: You make the memory even
def fitting_sizes(costs, memory, capacity, num_stages):
    sizes = list(partition(memory, num_stages).sizes)
    return sizes if max(Partition(sizes).loads(memory)) <= capacity else []

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: compares the whole memory with all capacities together
# EXPECT: no device can lend its room
def fitting_sizes(costs, memory, capacity, num_stages):
    if sum(memory) > num_stages * capacity:
        return []
    return list(partition(costs, num_stages).sizes)

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: a full stage does not fit
# EXPECT: fits: its largest stage needs
def fitting_sizes(costs, memory, capacity, num_stages):
    choices = combinations(range(1, len(costs)), num_stages - 1)
    ways = [[b - a for a, b in pairwise((0, *cuts, len(costs)))] for cuts in choices]
    fitting = [sizes for sizes in ways if Partition(sizes).bottleneck(memory) < capacity]
    return min(fitting, key=lambda sizes: Partition(sizes).bottleneck(costs), default=[])

# %% tags=["wrong-answer"]
# EXERCISE: 04.4
# MISCONCEPTION: looks for the memory of a stage at the front each time
# EXPECT: stage 1 needs
def fitting_sizes(costs, memory, capacity, num_stages):
    choices = combinations(range(1, len(costs)), num_stages - 1)
    ways = [[b - a for a, b in pairwise((0, *cuts, len(costs)))] for cuts in choices]
    fitting = [sizes for sizes in ways if all(sum(memory[:size]) <= capacity for size in sizes)]
    return min(fitting, key=lambda sizes: Partition(sizes).bottleneck(costs), default=[])

# %% tags=["right-answer"]
# EXERCISE: 04.4
def fitting_sizes(costs, memory, capacity, num_stages):
    best, least = [], float("inf")
    for ends in combinations(range(1, len(costs) + 1), num_stages):
        if ends[-1] != len(costs):
            continue
        runs = [range(a, b) for a, b in pairwise((0, *ends))]
        largest = max(sum(costs[i] for i in run) for run in runs)
        fits = all(sum(memory[i] for i in run) <= capacity for run in runs)
        if fits and largest < least:
            best, least = [len(run) for run in runs], largest
    return best

# %% [markdown]
# Run the check.

# %% tags=["nbval-check-output"]
result = check("04.4", fitting_sizes)
result

# %% [markdown]
# The decoder of the lesson, with its two heavy tables. How much must a device have, and what does each number of stages make of it?

# %% tags=["nbval-check-output"]
fit, memory = result.or_reference(), [40] + [10] * 12 + [40]
for num_stages in (2, 3, 4, 5):
    for capacity in (40, 50, 60, 80, 100):
        sizes = list(map(int, fit(costs, memory, capacity, num_stages)))
        found = f"bottleneck {Partition(sizes).bottleneck(costs):3} with {sizes}" if sizes else "nothing fits"
        print(f"{num_stages} stages, {capacity:3} of memory each: {found}")

# %% [markdown]
# Read the table from below. A fifth device makes 40 of memory enough, where four need 50. In time it gains next to nothing over four that have room: 40 for 41, and 40 is the head, which no cut divides.
#
# ## A challenge without a check: there and back
#
# Place twelve layers on three devices as `[0, 0, 1, 1, 2, 2, 2, 2, 1, 1, 0, 0]`: devices 0 and 1 hold two groups each, device 2 one long one, and the last layers come home to the first device.
#
# - How many crossings has it, where groups have 2 and dealt-out layers 11?
# - Embedding and head lie on one device now. Take a tied decoder. What does `tied_bytes` of a step's result say, for this placement and for `[4, 4, 4]`? Which of them moves less altogether, and at which size of mini-batch does that turn round?
# - Write its schedule: `Schedule(orders, stage_to_rank=[0, 1, 2, 2, 1, 0])`, one list of actions for each rank. Run it with `Pipeline` on three devices, in six stages of two layers. With four micro-batches, how little idle time can you reach?
#
# A schedule of this shape can keep every rank at work from its first action to its last, under ideal times.
