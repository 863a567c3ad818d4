# %% [markdown]
# # 05 Worker idle time
#
# **Four GPUs, and three of them always wait: why?**
#
# 45 minutes. You need the words *rank*, *stage* and *timeline* from lesson 00, and 2F0, the forward
# of stage 2 on micro-batch 0, from lesson 03. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - name the reason of every blank in a timeline
# - derive how much of the time $n$ workers are idle, and measure it on your own machine
# - say what uneven stages, slow links and faster devices change about it, and what they do not
# - tell apart the two bubbles that papers report
#
# Here are the four. Under the lanes stands what rank 1 waits for, blank by blank.

# %%
from d2lpart import Link, build_schedule, simulate


def naive(*forwards, link=Link()):
    """Predict one naive step; stage i takes forwards[i] seconds forward, twice that backward."""
    durations = [{"F": f, "B": 2 * f} for f in forwards]
    return simulate(build_schedule("naive", len(forwards), 1), durations, link)


naive(1, 1, 1, 1).plot(reasons=1)

# %% [markdown] card="Worker Idle Time in Layer-wise Model Parallelism"
# ## Worker Idle Time in Layer-wise Model Parallelism
#
# The step is *naive*: the mini-batch passes through in one piece, forward and then back. A lane is
# blank where its rank is *idle*: it computes nothing. The times are ours, 1 s for a
# forward and 2 s for a backward, so this is the *predicted* clock. Messages take no time yet.
#
# A blank has one of three reasons. Before its first action a rank *fills*: nothing has reached it
# yet. In between it *waits* for its neighbours. After its last action it *drains*: its part of the
# step is done, and others still work on theirs.

# %% [markdown] card="Analyzing Efficiency in a Distributed Model"
# ## Analyzing Efficiency in a Distributed Model
#
# Take the smallest case in which a worker has somebody before and behind it: 12 layers on 3 GPUs.
# The question counts GPUs and layers from 1; everywhere else we count from 0.

# %%
from d2lpart.course import question

question("05.q1")

# %% [markdown]
# Here is that step, as text. Rank 1 is the question's GPU 2.

# %% tags=["nbval-check-output"]
three = naive(1, 1, 1)
print(three)

# %% [markdown]
# Put your finger on any moment and count: one box, two blanks. Before you look at the gaps one by
# one, work out the longest of them.

# %%
question("05.q2")

# %% [markdown]
# All gaps, with their reasons:

# %% tags=["nbval-check-output"]
for rank in range(3):
    for gap in three.gaps(rank):
        print(f"rank {rank}  {gap.start:g} s to {gap.end:g} s  {gap.kind:5}  {gap.reason}")
    print(f"        idle {three.idle(rank):g} s of {three.makespan:g} s")

# %% [markdown]
# Each rank is idle for 6 of 9 s, and each in its own way: rank 0 only waits, rank 2 fills and drains,
# rank 1 does all three.
#
# ## Count the slots
#
# Why do different gaps add up to the same? Look at the step as a sequence: 0F0, 1F0, 2F0, 2B0, 1B0,
# 0B0. Each needs what the one before has made. So **at any moment one rank works**, never two. Let
# a step last $T$ seconds. $n$ ranks have $n$ lanes, $nT$ seconds in all, and $T$ of these are work.
# *Idle/total* is the part that is left:
#
# $$\text{idle/total} = \frac{nT - T}{nT} = \frac{n-1}{n}.$$
#
# Two thirds for three ranks. How long a forward takes, or a backward, or how many layers there are
# is *not* in it. Now use it.

# %%
question("05.q3")

# %% [markdown]
# The same model, 24 s of work, on more and more ranks:

# %% tags=["nbval-check-output"]
print("ranks  step   idle/total  (n − 1)/n  each rank works")
for n in (1, 2, 3, 4, 8):
    step = naive(*[8 / n] * n)
    idle = step.idle_fraction()
    print(f"{n:5}  {step.makespan:g} s  {idle:10.1%}  {(n - 1) / n:9.1%}  {step.busy(0):g} s")

# %% [markdown]
# The step takes 24 s with one rank and with eight. More workers are more lanes for the same work.
# What they add is memory: of eight ranks each holds about an eighth of the model.
#
# ## When stages are uneven
#
# Real stages are seldom equally heavy. Make one of three twice as heavy as the others. You may
# expect more idle time.

# %%
question("05.q4")

# %% [markdown]
# Set the two steps side by side:

# %% tags=["nbval-check-output"]
print(three.compare(naive(1, 2, 1)))

# %% [markdown]
# The step is longer, for there is more work. The idle part of all ranks together has not moved:
# whatever the stages weigh, one lane of three is at work. What has moved is *whose* time is idle.
# With $t_i$ the seconds of stage $i$, rank $i$ is idle for $1 - t_i/\sum_j t_j$ of the step; the
# heavy rank idles least. Remember this result. At the end of the lesson it fails.
#
# ## Measure it
#
# So far the times were made up. Now real ones. A pipeline on the *wall* clock gives each rank a
# thread, and reads starts and ends from a clock. As only one rank works at a time, this is a true
# measurement even on a machine with a single core. First say what you expect.

# %%
question("05.q5")

# %% [markdown]
# A decoder of 24 layers (embedding, 22 blocks, head), cut in 1 to 8 stages with equally many
# layers. Each pipeline takes one step to warm up; then three are kept.

# %%
import torch
from d2lpart import Decoder, Pipeline, corpus

torch.set_num_threads(1)  # the same hardware for every rank: one thread
torch.manual_seed(0)
decoder = Decoder(vocab_size=256, width=64, num_layers=22, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=8, context=32))


def measure(num_ranks, steps=3):
    sizes = [24 // num_ranks] * num_ranks
    pipeline = Pipeline(decoder, sizes, ["cpu"] * num_ranks, schedule="naive", clock="wall")
    pipeline.step(inputs, targets)
    return [pipeline.step(inputs, targets).timeline for _ in range(steps)]


ranks = [1, 2, 3, 4, 6, 8]
measured = {n: measure(n) for n in ranks}
measured[4][-1]

# %% [markdown]
# That is one of the steps with four ranks. (The note under it may say that ranks share cores and slow
# each other down where too many work at once. Here one works at a time.) All steps, over the
# formula; a mark is the middle of three, its bar goes from the lowest to the highest:

# %%
from statistics import median

from d2lpart import figures

idle = {n: [step.idle_fraction() for step in measured[n]] for n in ranks}
middle = [median(idle[n]) for n in ranks]
below = sum(share < (n - 1) / n for n in ranks for share in idle[n])
print(f"{below} of {3 * len(ranks)} measured steps lie below (n − 1)/n")
figures.curves(
    ranks,
    {"(n − 1)/n": [(n - 1) / n for n in ranks], "measured, wall clock": middle},
    bounds={"measured, wall clock": [(min(idle[n]), max(idle[n])) for n in ranks]},
    xlabel="ranks n",
    ylabel="idle/total",
    description="Measured idle part of a naive step. "
    + ", ".join(f"n = {n}: {m:.2%}, bound {(n - 1) / n:.2%}" for n, m in zip(ranks, middle)),
)

# %% [markdown]
# More workers, more idle time, and no step below the line: there two ranks would have to work at the
# same time, which the dependencies forbid. So $(n-1)/n$ is a *lower bound* for every real naive
# step, on any hardware. Where points lie above it, there was time in which nobody worked.
#
# ## Who is at work when nobody is?
#
# Between the end of one action and the start of the next, a message goes into a queue, a thread
# wakes up, Python finds its place. The timeline gives such a gap the reason *overhead*. All lanes are
# blank then, so take the step and subtract all the work in it. Of each three steps we take the middle
# one:

# %%
for n in ranks[1:]:
    step = sorted(measured[n], key=lambda step: step.makespan)[1]
    nobody = step.makespan - sum(map(step.busy, range(n)))
    hand_overs = 2 * (n - 1)
    print(f"{n} ranks: nobody works in {nobody / step.makespan:6.2%} of the step, "
          f"{nobody / hand_overs * 1e6:6.0f} µs for each of {hand_overs} hand-overs")
for gap in step.gaps(0):
    if gap.kind == "overhead":
        print(f"with {n} ranks, rank 0 has {gap.seconds * 1e6:.0f} µs of {gap.reason}")

# %% [markdown]
# If this share is $w$, then idle/total is $1 - (1-w)/n$: the bound, and $w/n$ on top. More ranks
# mean more hand-overs, $2(n-1)$, for the same work. The share should be
# small; on a busy machine the next thread also waits for a core, and it can be large.
#
# ## Does the cut make one pass faster?

# %%
question("05.q6")

# %% [markdown]
# The prediction, with a link on which any message takes 0.03 s. Its forward is the pass of the
# question.

# %% tags=["nbval-check-output"]
cut = naive(0.25, 0.25, 0.25, 0.25, link=Link(latency=0.03))
forward_ends = max(span.end for span in cut.spans if span.action.kind == "F")
print(f"forward: {forward_ends:.2f} s on four ranks, 1.00 s on one")
print(f"step:    {cut.makespan:.2f} s on four ranks, 3.00 s on one; idle {cut.idle_fraction():.1%}")
for gap in cut.gaps(1):
    print(f"{gap.start:.2f} s to {gap.end:.2f} s  {gap.kind:8}  {gap.reason}")

# %% [markdown]
# Slower, by the messages on the way: 3 in the forward, 6 in the step. Rank 1 now has gaps of a new
# kind, *transfer*, of 0.03 s each: its input exists, and is still under way.
#
# With $C$ seconds of compute in the step, and $\tau$ seconds for a *hop*, a message from rank to rank,
#
# $$T = C + 2(n-1)\tau, \qquad \text{idle/total} = 1 - \frac{C}{nT}.$$
#
# ## How slow may the link be?
#
# A decoder of 13B parameters has 40 blocks of width $h = 5120$. We send one sequence of $s = 2048$
# positions through four ranks, 10 blocks each. A message is $s \cdot h$ numbers of 2 bytes, 21 MB.

# %%
question("05.q7")

# %% [markdown]
# We estimate the seconds: a block's forward takes $24sh^2 + 4s^2h$ floating-point operations
# (Megatron-LM, arXiv 2104.04473), and an A100 does half of its 312 TFLOP/s. This is a model, on the
# predicted clock. It ignores embedding and head.

# %% tags=["nbval-check-output"]
s, h = 2048, 5120
forward = 10 * (24 * s * h**2 + 4 * s**2 * h) / 156e12
links = {"no limit": float("inf"), "NVLink 3": 300e9, "PCIe 4": 31e9,
         "100 Gb/s network": 12.5e9, "1 Gb/s network": 0.125e9}  # bytes a second
print(f"a message: {2 * s * h / 1e6:.0f} MB")
for name, bandwidth in links.items():
    step = simulate(build_schedule("naive", 4, 1), {"F": forward, "B": 2 * forward},
                    Link(bandwidth=bandwidth), boundary_bytes=2 * s * h)
    sent = step.transfers[0].seconds
    print(f"{name:16}  message {sent * 1e3:6.2f} ms  step {step.makespan:.2f} s  "
          f"idle {step.idle_fraction():.1%}")

# %% [markdown]
# On all links but the last the messages hardly count: the GPUs wait *for each other*, not for the
# wire. On the last, six messages take about as long as the compute, and a naive step has nothing to
# overlap them with.
#
# All that you have seen of the naive step, in one question:

# %%
question("05.q12")

# %% [markdown]
# ## Buy a faster device?
#
# If three of four ranks always wait, it hardly seems worth speeding one up. Or does it?

# %%
question("05.q8")

# %% [markdown]
# The *critical path* is the chain of actions that the length of the step hangs on: each starts when
# the one before it in the chain has ended. A second saved elsewhere shortens nothing.

# %% tags=["nbval-check-output"]
from d2lpart import Span

even, faster = naive(1, 1, 1, 1), naive(1, 1, 0.5, 1)
path = [item for item in even.critical_path() if isinstance(item, Span)]
print("critical path:", " ".join(str(span.action) for span in path))
print(f"step {even.makespan:g} s -> {faster.makespan:g} s, {1 - faster.makespan / even.makespan:.1%} less")
print(f"idle {even.idle_fraction():.0%} -> {faster.idle_fraction():.0%}")

# %% [markdown]
# All eight actions are on it. In a naive step everybody is waited for, and a second saved anywhere
# is a second saved; only, each rank has so few of them. The idle part stays 75%: no device, fast or
# slow, gets four naive ranks below it.
#
# ## The cure: something else to do
#
# The formula has one way out. At any moment one rank works *because there is one thing to work on*.
# Cut the mini-batch into $m$ *micro-batches*, and rank 0 can begin the second one while rank 1 has
# the first. Here is the smallest case, two ranks and three micro-batches, by the schedule `gpipe`:
# all forwards, then all backwards.

# %% tags=["nbval-check-output"]
print(simulate(build_schedule("gpipe", 2, 3), {"F": 1, "B": 2}))

# %% [markdown]
# Count again, in slots of one forward and one backward. A rank works in $m$ of them. With $p$ the
# number of ranks, as books on pipelines write it, the last one starts $p-1$ forwards late; after it
# has ended, $p-1$ backwards are still to come. That makes $p-1$ blank slots, so the step has
# $m + p - 1$ and
#
# $$\text{idle/total} = \frac{p-1}{m+p-1}.$$
#
# With $m = 1$ it is the naive step. Four ranks and sixteen micro-batches, then:

# %%
question("05.q9")

# %% [markdown]
# Now run it. Pipelined ranks work at the same time, and four of them need four devices. The
# *virtual* clock makes do with one: every action really runs, alone, and is timed; its start is
# placed by the dependencies. So the durations are measured and the overlap is not. We take a
# decoder of 12 layers on four ranks and a mini-batch of 16 samples, in 1 to 16 micro-batches. Of each
# action we keep the shortest of five times, the one that other programs have disturbed least.
#
# Your guess first: with 16 micro-batches, measured, what part of the time is idle? Write a number, in
# %, in place of `None`. Or leave it; the lesson goes on either way.

# %%
from d2lpart.course import predict

guess = predict("05.p1", None)
guess

# %% [markdown]
# Now the four runs:

# %%
from d2lpart.timelines.simulator import undisturbed

small = Decoder(vocab_size=256, width=64, num_layers=10, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=16, context=32))


def virtual(num_microbatches):
    pipeline = Pipeline(small, [3, 3, 3, 3], ["cpu"] * 4, schedule="gpipe",
                        num_microbatches=num_microbatches, clock="virtual")
    pipeline.step(inputs, targets)  # to warm up
    return undisturbed(pipeline.step(inputs, targets).timeline for _ in range(5))


runs = {m: virtual(m) for m in (1, 2, 4, 16)}
runs[4]

# %% [markdown]
# With 4 micro-batches ranks do work at the same time. All four counts, in numbers and over the
# formula; *work* is what the four ranks compute together:

# %%
points = {m: run.idle_fraction() for m, run in runs.items()}
for m, run in runs.items():
    busy = sum(map(run.busy, range(4)))
    print(f"m = {m:2}: idle {points[m]:5.1%}, work {busy * 1e3:6.1f} ms, "
          f"step {run.makespan * 1e3:6.1f} ms")
print(guess.against(100 * points[16]))
everywhere = range(1, 17)
figures.curves(
    everywhere,
    {"(p − 1)/(m + p − 1)": [3 / (m + 3) for m in everywhere],
     "virtual clock": [points.get(m, float("nan")) for m in everywhere]},
    markers=["virtual clock"], xlabel="micro-batches m", ylabel="idle/total",
    description="Idle part with four ranks. " + ", ".join(
        f"m = {m}: {point:.1%}, formula {3 / (m + 3):.1%}" for m, point in points.items()),
)

# %% [markdown]
# At $m = 1$ the point *must* lie on the line: the virtual clock places a naive step by the very rule
# that the formula counts. Further right the naive 75% are left behind.
#
# But a smaller idle part is not yet a shorter step. Look at the column *work*. It should grow: each
# action has a fixed cost, and many small actions pay it many times. The formula takes for granted that
# $m$ pieces are together as much work as the whole, and that stages are even. Your table shows how far
# that holds here, and which $m$ gives the shortest step.
#
# ## Two bubbles
#
# The idle part of a pipelined step is called its *bubble*. Papers mostly mean one of two things by it.

# %%
question("05.q10")

# %% [markdown]
# *Idle/ideal* divides by the time of the work alone: $(p-1)/m$. It says by how much the step is
# longer than a perfect one, and may exceed 100%. *Idle/total* divides by all there is, and cannot.
# Every timeline of this course shows idle/total.
#
# ## What breaks the cure
#
# Remember that uneven stages do not change the idle part of all ranks together. Make stage 2 of four
# twice as heavy, first in the naive step, then with 16 micro-batches. What part is idle in the
# second?

# %%
guess = predict("05.p2", None)
guess

# %% [markdown]
# Both steps, even and uneven:

# %% tags=["nbval-check-output"]
def pipelined(*forwards):
    """Predict a gpipe step of 16 micro-batches, as `naive` does for one."""
    durations = [{"F": f, "B": 2 * f} for f in forwards]
    return simulate(build_schedule("gpipe", len(forwards), 16), durations)


heavy = pipelined(1, 1, 2, 1)
for name, stages in {"even": (1, 1, 1, 1), "stage 2 heavy": (1, 1, 2, 1)}.items():
    print(f"{name:14} naive {naive(*stages).idle_fraction():.1%}   "
          f"16 micro-batches {pipelined(*stages).idle_fraction():.1%}")
guess.against(100 * heavy.idle_fraction())

# %% [markdown]
# From 15.8% to 42.9%: as idle as even stages with only 4 micro-batches. One heavy stage has eaten
# what twelve more micro-batches had won. Ranks that take turns do not care whose turn is long;
# ranks that work at once all wait for the slowest. This is why lesson 04 balances.

# %%
question("05.q11")

# %% [markdown]
# The picture shows who hardly rests, and the critical path says it in numbers:

# %% tags=["nbval-check-output"]
from collections import Counter

on_path = Counter()
for item in heavy.critical_path():
    if isinstance(item, Span):
        on_path[item.rank] += item.seconds
for rank in range(4):
    faster = pipelined(*[f / 2 if r == rank else f for r, f in enumerate((1, 1, 2, 1))])
    print(f"rank {rank}: {on_path[rank]:2g} of {heavy.makespan:g} s on the critical path; "
          f"twice as fast, it saves {heavy.makespan - faster.makespan:g} s")
heavy

# %% [markdown]
# Here each rank, twice as fast, saves half of what it has on the path, and rank 2 has nearly all of
# it. (Make rank 2 four times as fast and that is no longer so: the path moves elsewhere. Try it.)
# When you look at a slow pipeline, do not ask who is idle. Ask whom the idle ones wait for.
#
# ## To remember
#
# - Without micro-batches one rank works at a time. So with $n$ ranks at least $(n-1)/n$ of all time is
#   idle, on any hardware; more workers mean more idle time, and no pass gets faster.
# - Every gap has a reason: fill, wait, drain, transfer or overhead.
# - In a naive step uneven stages move idle time from rank to rank; the part of all together stays. In a
#   pipelined step the heaviest stage sets the pace.
# - Micro-batches are the cure: idle/total $(p-1)/(m+p-1)$ with even stages. Ask which bubble a
#   figure is, idle/total or idle/ideal.
# - Only what lies on the critical path can shorten the step.
#
# The exercises are in
# [05_worker_idle_time.ipynb](../exercises/05_worker_idle_time.ipynb). Next: what the order of the
# actions is worth, [lesson 06](06_pipeline_parallelism.ipynb).
#
# **Read on.** Xiao and Zhu, [Foundations of Large Language Models](https://arxiv.org/abs/2501.09223),
# chapter 2, for idle workers in layer-wise model parallelism. Huang et al.,
# [GPipe](https://arxiv.org/abs/1811.06965), section 2, for the bubble as idle/total. Narayanan et
# al., [Megatron-LM](https://arxiv.org/abs/2104.04473), section 2.2, for the bubble as idle/ideal.
