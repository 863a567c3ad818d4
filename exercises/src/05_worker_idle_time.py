# %% [markdown]
# # 05 Worker idle time: exercises
#
# Four exercises, about 45 minutes. They go with
# [lesson 05](../notebooks/05_worker_idle_time.ipynb).

# %% [markdown]
# Write a function in place of `raise NotImplementedError`, run its cell, then the check below it.
# A check runs your function on many cases and tells you what it saw. You may check as often as you
# like; that you have passed is kept on your own disk and goes nowhere. The hints unfold; each says
# more than the one before. Ranks and stages count from 0; all times are in seconds.

# %%
import math

import torch
from d2lpart import Decoder, Link, Pipeline, build_schedule, corpus, figures, simulate
from d2lpart.course import check, hints

torch.set_num_threads(1)

# %% [markdown]
# ## Exercise 05.1 ● (5 minutes): Read a timeline
#
# A timeline has reached you as a list of spans `(rank, start, end)`, in no particular order. Write
# `idle_fraction(spans)`: the idle part of all ranks' time, idle/total. The step lasts from the first
# start to the last end; every rank has at least one span.
#
# For example `idle_fraction([(0, 0, 1), (1, 1, 2), (1, 2, 4), (0, 4, 6)])` gives 0.5.

# %%
hints("05.1")

# %% [markdown]
# Write it here:

# %%
def idle_fraction(spans):
    """The idle share (idle/total) of all ranks, from spans (rank, start, end) in any order."""
    ### BEGIN SOLUTION
    num_ranks = len({rank for rank, start, end in spans})
    makespan = max(end for _, _, end in spans) - min(start for _, start, _ in spans)
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (num_ranks * makespan)
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: the step begins at 0
# EXPECT: This one begins at 5 s, not at 0
def idle_fraction(spans):
    num_ranks = len({rank for rank, start, end in spans})
    return 1 - sum(end - start for _, start, end in spans) / num_ranks / max(s[2] for s in spans)

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: idle/ideal
# EXPECT: that is idle/ideal
def idle_fraction(spans):
    num_ranks = max(rank for rank, _, _ in spans) + 1
    makespan = max(s[2] for s in spans) - min(s[1] for s in spans)
    busy = sum(end - start for _, start, end in spans)
    return (num_ranks * makespan - busy) / busy

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: per cent
# EXPECT: A part lies between 0 and 1
def idle_fraction(spans):
    makespan = max(s[2] for s in spans) - min(s[1] for s in spans)
    busy = sum(end - start for _, start, end in spans)
    return 100 * (1 - busy / (len({s[0] for s in spans}) * makespan))

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: the spans come in order
# EXPECT: They come in no order
def idle_fraction(spans):
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (len({s[0] for s in spans}) * (spans[-1][2] - spans[0][1]))

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: the span that starts last ends last
# EXPECT: Another one ends later, at 6 s
def idle_fraction(spans):
    ordered = sorted(spans, key=lambda span: span[1])
    busy = sum(end - start for _, start, end in spans)
    return 1 - busy / (len({s[0] for s in spans}) * (ordered[-1][2] - ordered[0][1]))

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: filling and draining are no idle time
# EXPECT: Filling and draining are idle time, too
def idle_fraction(spans):
    idle = total = 0
    for rank in {s[0] for s in spans}:
        own = sorted(s[1:] for s in spans if s[0] == rank)
        idle += sum(b[0] - a[1] for a, b in zip(own, own[1:]))
        total += own[-1][1] - own[0][0]
    return idle / total

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: all work against one lane
# EXPECT: Each rank has a lane of its own
def idle_fraction(spans):
    makespan = max(s[2] for s in spans) - min(s[1] for s in spans)
    return 1 - sum(end - start for _, start, end in spans) / makespan

# %% tags=["wrong-answer"]
# EXERCISE: 05.1
# MISCONCEPTION: the formula in place of the spans
# EXPECT: What part of the box is blank?
def idle_fraction(spans):
    num_ranks = len({s[0] for s in spans})
    return (num_ranks - 1) / num_ranks

# %% tags=["right-answer"]
# EXERCISE: 05.1
def idle_fraction(spans):
    first, last = min(s[1] for s in spans), max(s[2] for s in spans)
    shares = []
    for rank in {s[0] for s in spans}:
        busy = sum(end - start for r, start, end in spans if r == rank)
        shares.append((last - first - busy) / (last - first))
    return sum(shares) / len(shares)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("05.1", idle_fraction)
result

# %% [markdown]
# Now let it read a step that really ran, from the wall clock, and hold it against what the timeline
# says of itself.

# %%
idle_fraction = result.or_reference()

decoder = Decoder(vocab_size=256, width=64, num_layers=6, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=8, context=32))
pipeline = Pipeline(decoder, [2, 2, 2, 2], ["cpu"] * 4, schedule="naive", clock="wall")
pipeline.step(inputs, targets)  # to warm up
timeline = pipeline.step(inputs, targets).timeline
spans = [(span.rank, span.start, span.end) for span in timeline.spans]
print(f"yours {idle_fraction(spans):.4%}, the timeline's {timeline.idle_fraction():.4%}")
timeline

# %% [markdown]
# ## Exercise 05.2 ●● (10 minutes): Uneven stages: fill, wait, drain
#
# A naive step, one stage a rank; the stages are not equally heavy: `forward[i]` and `backward[i]`
# are the seconds of stage `i`. Messages take no time. Write `gap_seconds(forward, backward, rank)`:
# how long the rank *fills* (before its first action), *waits* (between its two actions) and
# *drains* (after its last), as three numbers.
#
# For example `gap_seconds([1, 1, 1], [2, 2, 2], 1)` gives `(1, 3, 2)`, as in the lesson.

# %%
hints("05.2")

# %% [markdown]
# Write it here:

# %%
def gap_seconds(forward, backward, rank):
    """Seconds that a rank fills, waits and drains in a naive step, one stage a rank."""
    ### BEGIN SOLUTION
    fill = sum(forward[:rank])
    wait = sum(forward[rank + 1 :]) + sum(backward[rank + 1 :])
    drain = sum(backward[:rank])
    return fill, wait, drain
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 05.2
# MISCONCEPTION: the rank's own forward is filling
# EXPECT: in which rank 1 works
def gap_seconds(forward, backward, rank):
    behind = sum(forward[rank + 1 :]) + sum(backward[rank + 1 :])
    return sum(forward[: rank + 1]), behind, sum(backward[:rank])

# %% tags=["wrong-answer"]
# EXERCISE: 05.2
# MISCONCEPTION: the backward runs in the order of the forward
# EXPECT: It begins where the loss is, at stage 1
def gap_seconds(forward, backward, rank):
    wait = sum(forward[rank + 1 :]) + sum(backward[:rank])
    return sum(forward[:rank]), wait, sum(backward[rank + 1 :])

# %% tags=["wrong-answer"]
# EXERCISE: 05.2
# MISCONCEPTION: waits for the backwards only
# EXPECT: still have their forward to do
def gap_seconds(forward, backward, rank):
    return sum(forward[:rank]), sum(backward[rank + 1 :]), sum(backward[:rank])

# %% tags=["wrong-answer"]
# EXERCISE: 05.2
# MISCONCEPTION: all stages as heavy as one's own
# EXPECT: sum up their seconds
def gap_seconds(forward, backward, rank):
    f, b, n = forward[rank], backward[rank], len(forward)
    return rank * f, (n - 1 - rank) * (f + b), rank * b

# %% tags=["right-answer"]
# EXERCISE: 05.2
def gap_seconds(forward, backward, rank):
    n = len(forward)
    order = [(s, forward[s]) for s in range(n)] + [(s, backward[s]) for s in reversed(range(n))]
    parts, part = [0, 0, 0], 0
    for stage, seconds in order:
        if stage == rank:
            part += 1
        else:
            parts[part] += seconds
    return parts

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("05.2", gap_seconds)
result

# %% [markdown]
# A head with a large vocabulary makes the last stage heavy: here it takes 3 s forward, the others
# take 1 s. Who pays for it?

# %% tags=["nbval-check-output"]
gap_seconds = result.or_reference()

forward, backward = [1, 1, 1, 3], [2, 2, 2, 6]
for rank in range(4):
    fill, wait, drain = gap_seconds(forward, backward, rank)
    print(f"rank {rank}: fill {fill} s, wait {wait} s, drain {drain} s, "
          f"idle {(fill + wait + drain) / 18:.1%}")

# %% [markdown]
# The ranks before it do, each with 9 s of its waiting. And yet the mean is 75% once more: what rank
# 3 gains, the others lose.
#
# ## Exercise 05.3 ●● (10 minutes): Transfer time
#
# Now each message from rank to rank takes `hop` seconds. Write
# `step_seconds(forward, backward, hop)`: the length of a naive step, from the first forward to the
# end of the last backward.
#
# For example `step_seconds([1, 1, 1, 1], [2, 2, 2, 2], 0.5)` gives 15.0.

# %%
hints("05.3")

# %% [markdown]
# Write it here:

# %%
def step_seconds(forward, backward, hop):
    """The length of a naive step; each message between neighbouring ranks takes `hop` seconds."""
    ### BEGIN SOLUTION
    cuts = len(forward) - 1
    return sum(forward) + sum(backward) + 2 * cuts * hop
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 05.3
# MISCONCEPTION: messages go forward only
# EXPECT: As many gradients come back
def step_seconds(forward, backward, hop):
    return sum(forward) + sum(backward) + (len(forward) - 1) * hop

# %% tags=["wrong-answer"]
# EXERCISE: 05.3
# MISCONCEPTION: two messages for each rank
# EXPECT: the cuts are one fewer than the ranks
def step_seconds(forward, backward, hop):
    return sum(f + b + 2 * hop for f, b in zip(forward, backward))

# %% tags=["wrong-answer"]
# EXERCISE: 05.3
# MISCONCEPTION: the slowest stage fixes the step
# EXPECT: They take turns
def step_seconds(forward, backward, hop):
    return max(forward) + max(backward) + 2 * (len(forward) - 1) * hop

# %% tags=["wrong-answer"]
# EXERCISE: 05.3
# MISCONCEPTION: n ranks, n times as fast
# EXPECT: one works after another
def step_seconds(forward, backward, hop):
    n = len(forward)
    return (sum(forward) + sum(backward)) / n + 2 * (n - 1) * hop

# %% tags=["right-answer"]
# EXERCISE: 05.3
def step_seconds(forward, backward, hop):
    durations = [{"F": f, "B": b} for f, b in zip(forward, backward)]
    schedule = build_schedule("naive", len(forward), 1)
    return simulate(schedule, durations, Link(latency=hop)).makespan

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("05.3", step_seconds)
result

# %% [markdown]
# One device takes 3.6 s for a step, 1.2 s forward and 2.4 s backward. Cut it over more and more
# ranks, with 0.05 s a hop:

# %% tags=["nbval-check-output"]
step_seconds = result.or_reference()

for n in (2, 4, 8):
    seconds = step_seconds([1.2 / n] * n, [2.4 / n] * n, 0.05)
    print(f"{n} ranks: step {seconds:.2f} s, idle {1 - 3.6 / (n * seconds):.1%}")

# %% [markdown]
# Each cut adds a tenth of a second, there and back, and takes nothing away: a naive step can at
# best be as fast as one device.
#
# ## Exercise 05.4 ●●● (20 minutes): How much work makes a link cheap enough?
#
# You may not be able to change the link, but you can give each step more to do: a larger
# mini-batch. Let a naive step of $n$ ranks compute for $C$ seconds in all, and let a hop take `hop`
# seconds, whatever the mini-batch (so this ignores that larger activations take longer). Write
# `least_compute(num_ranks, hop, most_idle)`: the smallest $C$ at which at most the part `most_idle`
# of all rank time is idle. If there is none, return `math.inf`. There are two ranks or more, and
# `hop` is above 0.
#
# For example `least_compute(4, 0.25, 0.8)` gives 6.0: four ranks with 0.25 s a hop need 6 s of
# compute a step to be idle for no more than 80% of the time.

# %%
hints("05.4")

# %% [markdown]
# Write it here:

# %%
def least_compute(num_ranks, hop, most_idle):
    """The fewest seconds of compute in a naive step at which at most `most_idle` is idle."""
    ### BEGIN SOLUTION
    messages = 2 * (num_ranks - 1) * hop
    busy = num_ranks * (1 - most_idle)  # the share of the step in which some rank must work
    return busy * messages / (1 - busy) if busy < 1 else math.inf
    ### END SOLUTION

# %% tags=["wrong-answer"]
# EXERCISE: 05.4
# MISCONCEPTION: no limit to what work can do
# EXPECT: no amount of work brings them to 25.0%
def least_compute(num_ranks, hop, most_idle):
    b = num_ranks * (1 - most_idle)
    return b * 2 * (num_ranks - 1) * hop / (1 - b)

# %% tags=["wrong-answer"]
# EXERCISE: 05.4
# MISCONCEPTION: messages go forward only
# EXPECT: with the gradients there are
def least_compute(num_ranks, hop, most_idle):
    b = num_ranks * (1 - most_idle)
    return b * (num_ranks - 1) * hop / (1 - b) if b < 1 else math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 05.4
# MISCONCEPTION: a rank is idle only while nobody works
# EXPECT: are idle all the same
def least_compute(num_ranks, hop, most_idle):
    return 2 * (num_ranks - 1) * hop * (1 - most_idle) / most_idle

# %% tags=["wrong-answer"]
# EXERCISE: 05.4
# MISCONCEPTION: the compute of one rank
# EXPECT: That is one rank's share
def least_compute(num_ranks, hop, most_idle):
    b = num_ranks * (1 - most_idle)
    return (1 - most_idle) * 2 * (num_ranks - 1) * hop / (1 - b) if b < 1 else math.inf

# %% tags=["wrong-answer"]
# EXERCISE: 05.4
# MISCONCEPTION: 0 where there is no such time
# EXPECT: However large C is
def least_compute(num_ranks, hop, most_idle):
    b = num_ranks * (1 - most_idle)
    return b * 2 * (num_ranks - 1) * hop / (1 - b) if b < 1 else 0.0

# %% tags=["right-answer"]
# EXERCISE: 05.4
def least_compute(num_ranks, hop, most_idle):
    bound = (num_ranks - 1) / num_ranks
    if most_idle <= bound:
        return math.inf
    return (1 - most_idle) * 2 * (num_ranks - 1) * hop / (most_idle - bound)

# %% [markdown]
# Check it.

# %% tags=["nbval-check-output"]
result = check("05.4", least_compute)
result

# %% [markdown]
# Four ranks, a hop of 1 ms. How much work buys which idle time?

# %%
least_compute = result.or_reference()

limits = [percent / 100 for percent in range(76, 89)]
needed = [1e3 * least_compute(4, 1e-3, limit) for limit in limits]
figures.curves(
    [100 * limit for limit in limits], {"least compute": needed},
    xlabel="idle time allowed, % (idle/total)", ylabel="compute a step, ms",
    description="Compute needed with four ranks and 1 ms a hop: "
    + ", ".join(f"{c:.0f} ms for {limit:.0%}" for limit, c in list(zip(limits, needed))[::4]),
)

# %% [markdown]
# Towards 75% the curve climbs without end. (This is the formula, nothing was measured.) More work hides the link; the ranks' waiting for each
# other it cannot hide. That takes micro-batches.
#
# ## A challenge without a check
#
# Build a naive step in which rank 2 of four is idle for less than half of the time. Then change the
# *schedule* in place of the stages: stages even, one micro-batch. Can any order of actions get the
# idle time below 75%? Write down why, before you try `build_schedule`.

# %% [markdown] tags=["solution-only"]
# For the first, make stage 2 heavier than all others together: rank $i$ is idle for
# $1 - t_i/\sum t$. For the second: no. With one micro-batch the dependencies leave one order alone,
# 0F0 1F0 2F0 3F0 3B0 2B0 1B0 0B0, and no two of these actions can overlap.
