# %% [markdown]
# # 06 Pipeline parallelism
#
# **The same work, the same four ranks, and one of these steps takes less than a third of the other:
# what is the order worth?**
#
# 60 minutes. You need lesson 05: idle time, the two bubbles, the critical path; and from lesson 04 what
# a crossing is. No GPU is needed.

# %% [markdown]
# ## After this lesson you can
# - derive the bubble of a pipelined step, and hold it against a simulation and a real run
# - say what GPipe, 1F1B, interleaved 1F1B and zero-bubble orders pay for a smaller bubble, and measure it
# - choose the number of micro-batches by the step, not by the bubble
# - write a schedule of your own, have it checked and explained, and run it for real
#
# Here are the two steps, on the *predicted* clock: a forward takes 1 s, a backward 2 s.

# %%
from d2lpart import Link, build_schedule, simulate

even = {"F": 1, "I": 1, "W": 1}  # seconds; I and W are the halves of a backward
naive, zero = (simulate(build_schedule(name, 4, 8), even) for name in ("naive", "zb-h1"))
naive.compare(zero)

# %% [markdown] card="Pipeline Parallelism"
# ## Pipeline Parallelism
#
# Above, the 8 pieces of a mini-batch go through one after another. Below they follow each other
# closely, and each backward is done in two halves: the yellow boxes and the pink ones. It is the same
# work, and the same result. Between the two lie several ideas, and you will meet them one by one,
# each with what it costs.
#
# The first one you know from lesson 05: cut the mini-batch into **micro-batches**. The optimizer
# still steps once, when all of them are through, so nothing about the training changes. What changes
# is that rank 0 can begin the second piece while rank 1 has the first.
#
# ## The bubble, once more
#
# Lesson 05 counts slots of one forward and one backward. The $p$ ranks are *even*: all their stages
# take the same time. Each works in $m$ slots, and $p-1$ more stay blank: before the first forward of
# the last rank, and after its last backward. So
#
# $$\text{idle/total} = \frac{p-1}{m+p-1}.$$
#
# Turn it round, from the bubble to the number of micro-batches:

# %%
from d2lpart.course import predict, question

question("06.q1")

# %% [markdown]
# The formula, the simulator, and a real run, for four numbers of micro-batches. The decoder has 8
# layers, two a rank; on the *virtual* clock every action really runs and is timed alone, and the
# starts are placed by the dependencies.

# %%
from dataclasses import replace

import torch
from d2lpart import Decoder, Pipeline, corpus
from d2lpart.timelines.simulator import undisturbed

torch.set_num_threads(1)
torch.manual_seed(0)
decoder = Decoder(vocab_size=256, width=64, num_layers=6, num_heads=4, context=32)
inputs, targets = next(corpus().batches(batch_size=32, context=32))


def run(schedule, num_microbatches, stages_a_rank=1, model=decoder):
    sizes = [8 // (4 * stages_a_rank)] * (4 * stages_a_rank)
    pipeline = Pipeline(model, sizes, ["cpu"] * 4, schedule=schedule,
                        num_microbatches=num_microbatches, clock="virtual")
    pipeline.step(inputs, targets)  # to warm up
    steps = [pipeline.step(inputs, targets) for _ in range(5)]
    return replace(steps[0], timeline=undisturbed(step.timeline for step in steps))

# %% [markdown]
# `run` takes six steps. Of each action it keeps the shortest of the last five times, the one that the rest
# of your machine has disturbed least, and places these.

# %%
print(" m   formula  simulated  measured")
for m in (4, 8, 16, 32):
    simulated = simulate(build_schedule("gpipe", 4, m), even)
    measured = run("gpipe", m).timeline
    print(f"{m:2}   {3 / (m + 3):7.1%}  {simulated.idle_fraction():9.1%}  {measured.idle_fraction():8.1%}")

# %% [markdown]
# The first two columns agree to the last digit, though the simulator knows no formula: it only places
# each action as early as it can. The measured column is larger, for the stages are not
# even: rank 3 has the head, rank 0 the embedding, each in place of a block.
#
# So much for what micro-batches change. And what do they not change?

# %%
question("06.q10")

# %% [markdown]
# ## GPipe against 1F1B
#
# `gpipe` runs all forwards, then all backwards. `1f1b` runs a few forwards ahead, and then one forward
# and one backward in turn. Both end empty, with one update. (The first 1F1B, PipeDream, never ran
# empty: it updated after every micro-batch, and some gradients were of older weights. Here 1F1B is
# what came of it, PipeDream-Flush.)

# %% tags=["nbval-check-output"]
gpipe, one_f_one_b = (simulate(build_schedule(name, 4, 8), even) for name in ("gpipe", "1f1b"))
print(gpipe.compare(one_f_one_b).lanes())

# %% [markdown]
# Look at the middle of the second picture: there is hardly a blank. So which bubble is smaller? (A *free
# link* is one on which messages take no time.)

# %%
question("06.q2")

# %% [markdown]
# Then what is it good for? An activation has to be kept from its forward until its backward.

# %%
question("06.q3")

# %% [markdown]
# Here is 1F1B again. Under the lanes stands what each rank holds: it rises, and stays. (The notches are
# moments at which a backward lets one go, and the next forward takes its place.)

# %%
for step in (one_f_one_b, gpipe):
    held = ", ".join(f"{step.peak_in_flight(rank):g}" for rank in range(4))
    print(f"{step.schedule.name:5} holds at most {held} on ranks 0 to 3")
one_f_one_b.plot(memory=True)

# %% [markdown]
# Now in bytes, on your machine. A step reports how much each rank really held at most: the tensors
# that autograd kept for the backward. Your guess first, with 16 micro-batches:

# %%
guess = predict("06.p1", None)
guess

# %% [markdown]
# Run both:

# %%
steps = {name: run(name, 16) for name in ("gpipe", "1f1b")}
for name, step in steps.items():
    held = ", ".join(f"{nbytes / 1e6:5.2f}" for nbytes in step.peak_bytes)
    print(f"{name:6} holds {held} MB on ranks 0 to 3; loss {step.loss:.4f}")
guess.against(steps["gpipe"].peak_bytes[0] / steps["1f1b"].peak_bytes[0])

# %% [markdown]
# The same loss, on paper the same bubble, and a fraction of the memory: on rank $r$ no more than
# $p - r$ micro-batches, however many there are. GPipe holds the whole mini-batch, in however many
# pieces, so its memory limits the mini-batch; that of 1F1B limits only the micro-batch. (The GPipe
# paper lives with it by *recomputing*: of each stage it keeps the input alone, and runs the forward
# again before the backward. Here nothing is recomputed.)
#
# More ranks do not help, though. Rank 0 holds $p$ micro-batches of $1/p$ of the layers: about one
# micro-batch of the whole network, for any $p$.
#
# ## More micro-batches, faster step?
#
# The bubble falls with $m$, and so does the memory of 1F1B. So cut the mini-batch as finely as you can?

# %%
question("06.q4")

# %% [markdown]
# Here is your machine's answer, with one mini-batch of 32 samples:

# %%
from d2lpart import figures

counts = [1, 2, 4, 8, 16, 32]
runs = {m: run("1f1b", m).timeline for m in counts}
for m, timeline in runs.items():
    work = sum(map(timeline.busy, range(4)))
    print(f"m = {m:2}: idle {timeline.idle_fraction():5.1%}, work {1e3 * work:6.1f} ms, "
          f"step {1e3 * timeline.makespan:6.1f} ms")
figures.curves(
    counts,
    {"step": [1e3 * runs[m].makespan for m in counts],
     "work a rank, on average": [1e3 * sum(map(runs[m].busy, range(4))) / 4 for m in counts]},
    xlabel="micro-batches m", ylabel="ms (virtual clock)",
    description="1F1B on four ranks. " + ", ".join(
        f"m = {m}: step {1e3 * runs[m].makespan:.0f} ms" for m in counts),
)

# %% [markdown]
# What lies between the two curves is idle time, and its part of the step falls. But to the right the
# lower curve rises: a smaller piece costs more for each sample, since every action has a price of its
# own. The step is shortest where the two balance, and where that is depends on model and machine. (On a
# GPU small pieces do not fill the chip; Megatron-LM, section 3.4, finds the best size of a micro-batch
# in between there, too.) **Choose $m$ by the step, not by the bubble.**
#
# ## Interleaving
#
# A rank's wait to fill and to drain is counted in stages. So make stages shorter, without more ranks:
# give each rank $v$ of them, dealt out in turn. With $v = 2$, rank 0 of four gets stages 0 and 4, rank 1
# gets 1 and 5, and so on.

# %%
half = {kind: seconds / 2 for kind, seconds in even.items()}
interleaved = simulate(build_schedule("interleaved", 4, 8, chunks=2), half)
interleaved

# %% [markdown]
# In lesson 04 you called 12 layers dealt out to 3 devices *no* layer-based partition: no rank has
# consecutive layers, and there are 11 crossings where 2 would do. That was right, and this is the other
# side of it. Interleave 12 stages of one layer each over 3 ranks, and you have that very placement:

# %% tags=["nbval-check-output"]
from d2lpart import check_placement

dealt = build_schedule("interleaved", 3, 6, chunks=4).stage_to_rank
print("stage by stage, the ranks:", *dealt)
print(check_placement(dealt, 3).reason)
for v in (1, 4):
    t = simulate(build_schedule("interleaved", 3, 6, chunks=v), dict.fromkeys("FIW", 1 / v))
    print(f"v = {v}: {3 * v - 1:2} crossings, idle {t.idle_fraction():.1%}, step {t.makespan} s")

# %% [markdown]
# With crossings one can buy a smaller bubble. Is there anything else in the price?

# %%
question("06.q5")

# %% [markdown]
# And how much smaller does it get?

# %%
question("06.q6")

# %% [markdown]
# A rank's work now takes $vm$ short slots, and $p-1$ more stay blank: idle/total is
# $(p-1)/(vm+p-1)$, where $m$ is a multiple of $p$. Whether that is a good trade depends on the link.
# Each message takes a while, and there are more of them:

# %% tags=["nbval-check-output"]
for latency in (0, 0.5, 1, 2):
    plain = simulate(build_schedule("1f1b", 4, 8), even, Link(latency))
    split = simulate(build_schedule("interleaved", 4, 8, chunks=2), half, Link(latency))
    print(f"{latency:3} s a message: 1F1B {plain.makespan:5.1f} s, interleaved {split.makespan:5.1f} s")

# %% [markdown]
# Short messages slow down both, and interleaving keeps its lead. But its slots are shorter, so that a
# message sooner takes longer than there is work to hide it behind: at 1 s the lead shrinks, at 2 s it
# is gone.
#
# ## Zero bubble
#
# The backward of a stage has two halves. `I` computes the gradient of the stage's *input*; `W` the
# gradients of its *weights*. In a linear layer both take as many operations as the forward: three
# matrix products of one size. What has no weights, such as the products inside attention, is in F and
# in I alone, so in a decoder W is the shortest. (The paper below measured 18.5, 18.1 and 9.3 ms for F,
# I and W in one of its models.) On paper we go on with 1 s each.

# %%
question("06.q7")

# %% [markdown]
# So a rank runs I at once, and fills with W what would be a gap. What must come before what?

# %%
question("06.q8")

# %% [markdown]
# Three orders from the paper that had this idea (arXiv 2401.10241). With H1 no rank holds more
# micro-batches than 1F1B's rank 0, with H2 almost twice as many. V has two stages a rank and folds the
# pipeline: rank 0 has the first stage *and the last*.

# %% tags=["nbval-check-output"]
print("              step   idle/total  longest rank  held by the fullest rank")
for name in ("1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v"):
    chunks = 2 if name == "interleaved" else None
    schedule = build_schedule(name, 4, 8, chunks=chunks)
    share = 4 / schedule.num_stages
    t = simulate(schedule, dict.fromkeys("FIW", share))
    held = max(t.peak_in_flight(rank) for rank in range(4))
    print(f"{name:12} {t.makespan:5.1f} s  {t.idle_fraction():8.1%}  {t.bubble_rate():12.1%}  {held:10.1f}")

# %% [markdown]
# Two columns for the bubble, and ZB-H2 has 0.0% in one of them. The paper counts each rank from its
# own first start to its own last end, and takes the longest: `bubble_rate()`. Our idle/total counts the
# whole step for all, and with it the time by which rank 3 of ZB-H2 starts late. Neither is wrong. In the
# paper a rank that is done begins the next step at once, so a late start is lost only once; for that
# the optimizer must not wait for all ranks. Our steps end for all together. When you read "zero
# bubble", ask which.

# %%
question("06.q9")

# %% [markdown]
# Does it hold up for real? The pipeline splits the backward in earnest: I runs the graph down to the
# stage's input and keeps what W will need; W is computed later, and nothing of our decoder runs twice.
# With 8 micro-batches on four ranks:

# %%
guess = predict("06.p2", None)
guess

# %% [markdown]
# Every schedule, the same decoder, the same batch:

# %%
results = {name: run(name, 8, 2 if name in ("interleaved", "zb-v") else 1)
           for name in ("naive", "gpipe", "1f1b", "interleaved", "zb-h1", "zb-h2", "zb-v")}
for name, step in results.items():
    t = step.timeline
    print(f"{name:12} step {1e3 * t.makespan:6.1f} ms  idle {t.idle_fraction():5.1%}  fullest rank "
          f"{max(step.peak_bytes) / 1e6:5.2f} MB  loss {step.loss:.5f}")
print(guess.against(100 * results["zb-h1"].timeline.idle_fraction()))
results["zb-h1"].timeline

# %% [markdown]
# All losses are the same: an order changes no result. The memory of ZB-H1 may surprise you. It holds $p$
# micro-batches on *every* rank, also on those with two whole blocks, and from I to W it keeps gradients
# as well.
#
# The zero-bubble orders idle less than 1F1B. Do they also take less time? Look at the column *step*
# before you read on. Where it says no, look at what the split costs: I and W together may take longer
# than one whole backward, for they are more calls, and gradients that are kept and read again. By how
# much, here? All micro-batches are the same work, so I take the fastest of the 8, stage by stage, and
# predict both steps from these times. The wider the layers, the less the split should count: the
# products grow, the calls do not. So the second line is for a decoder twice as wide.

# %%
def fastest(result, kinds):
    return [{kind: min(span.seconds for span in result.timeline.spans
                       if (span.action.stage, span.action.kind) == (stage, kind)) for kind in kinds}
            for stage in range(4)]


wide = Decoder(vocab_size=256, width=128, num_layers=6, num_heads=4, context=32)
for of in (results, {name: run(name, 8, model=wide) for name in ("1f1b", "zb-h1")}):
    split, whole = fastest(of["zb-h1"], "FIW"), fastest(of["1f1b"], "FB")
    price = sum(s["I"] + s["W"] for s in split) / sum(s["B"] for s in whole)
    zb_h1 = simulate(build_schedule("zb-h1", 4, 8), split).makespan
    step = zb_h1 / simulate(build_schedule("1f1b", 4, 8), whole).makespan
    print(f"I and W take {price:.2f} times as long as B; the step of ZB-H1 {step:.2f} times that of 1F1B")

# %% [markdown]
# The smaller bubble has to pay for the split first. With the wide layers of large models it does: on GPUs
# the paper measures up to 23% more throughput than 1F1B in about the same memory. So measure before you
# choose.
#
# What 1F1B promised for even stages, and what came of it, side by side. Each row names its definition of
# the bubble. The last one is the column *longest rank* from above: *cost* is the time of that rank, from
# its first start to its last end, and $m(F+I+W)$ is the work of the busiest one. So what the *other*
# ranks wait for it is no bubble there:

# %%
from d2lpart import bubbles

print(bubbles(simulate(build_schedule("1f1b", 4, 8), even), results["1f1b"].timeline))

# %% [markdown]
# ## Why is there a gap?
#
# A timeline knows the chain behind each blank. Take the longest wait of rank 1 in 1F1B, on paper:

# %% tags=["nbval-check-output"]
waits = [gap for gap in one_f_one_b.gaps(1) if gap.kind == "wait"]
print(one_f_one_b.why(1, max(waits, key=lambda gap: gap.seconds)))

# %% [markdown]
# Read it upwards: the last line is where it began. A gap is as long as the chain behind it, so a faster
# device helps only if it is in the chain.
#
# Now try for yourself. Choose a schedule and its sizes, and ask any gap why it is there. (On the
# keyboard, arrows move a slider, and Space opens a list. Without controls you see the start;
# `schedule_report("zb-v", 4, 8, latency=0.5)` from `d2lpart.explorers` answers for other values,
# and its `why(0)` for the longest gap.)

# %%
from d2lpart.explorers import schedule_explorer

schedule_explorer("zb-h1", forward=1, backward=2)

# %% [markdown]
# Three things to look for: the latency at which interleaving loses to 1F1B; the number of micro-batches
# below which ZB-V keeps a bubble; and what a longer backward does to ZB-H2.
#
# ## A schedule of your own
#
# A schedule is nothing but an order for each rank: write it down, and it is checked. Can this one run?
# Find out for yourself, and then run the cell:

# %% tags=["nbval-check-output"]
from d2lpart import Schedule, ScheduleError, validate

try:
    own = validate(Schedule(["0F0 0B0 0F1 0B1", "1F1 1B1 1F0 1B0"], [0, 1]))
    print(simulate(own, even))
except ScheduleError as error:
    print(error)

# %% [markdown]
# A *deadlock*: each rank waits for what the other will do later. Rank 0 wants the gradient of
# micro-batch 0 first, rank 1 begins with micro-batch 1. Change the order of rank 1 until it runs; then
# you see its lanes.
#
# Mostly one writes a function of $p$ and $m$. Here is an idea: GPipe holds too much, so run it on $p$
# micro-batches at a time. Where will it stand among the others, if no rank may hold more than 4?

# %%
from d2lpart import ranking


def my_schedule(p, m):
    groups = [range(k, min(k + p, m)) for k in range(0, m, p)]
    return [[f"{r}{kind}{k}" for group in groups for kind in "FB" for k in group] for r in range(p)]


mine = Schedule(my_schedule(4, 8), range(4), "mine")
print(ranking(mine, even, most_held=4, chunks=1))
print(f"for real: idle {run(mine, 8).timeline.idle_fraction():.1%}")
simulate(mine, even)

# %% [markdown]
# It keeps to the memory, and pays: the pipeline runs empty between the groups. 1F1B holds as little and
# never runs empty. To run a schedule of your own for real, hand it to a `Pipeline`, as `run` does.
#
# Or build one without any mistake: here only the actions that can run next have a button, and any other
# tells you what it waits for. Three ranks, three micro-batches, and no rank may hold more than three. In
# the end it compares yours with par, the best named schedule with one stage a rank.

# %%
from d2lpart.explorers import schedule_builder

builder = schedule_builder(3, 3, split=True, most_held=3)
for move in ("0F0", "0F1", "1F0"):
    builder.report.place(move)
builder

# %% [markdown]
# (Without buttons, `builder.report.place("2F0")` makes the next move, and says no to what cannot run;
# `builder.report.undo()` takes it back.)
#
# Then the challenge: four ranks, 8 micro-batches, and at most 4 held, as in the table above. 1F1B takes
# 33 s. **Par is 27 s.** The last exercise checks yours,
# says how far it is from par, and runs it for real.
#
# ## To remember
#
# - Even stages, free links: idle/total $(p-1)/(vm+p-1)$, with $v$ stages a rank. GPipe and 1F1B have
#   the same bubble; 1F1B holds at most $p-r$ micro-batches on rank $r$, GPipe all $m$. There is one update a
#   mini-batch in all of them.
# - Interleaving divides the blanks by $v$, for $vp-1$ crossings and more memory.
# - The backward has two halves, and before the optimizer's step nobody waits for W. Zero-bubble orders
#   fill the gaps with it.
# - There are three bubbles in the wild: idle/total, idle/ideal, and that of the longest rank.
# - The smallest bubble need not be the fastest step: fixed costs, messages and uneven stages decide.
#
# The exercises are in
# [06_pipeline_parallelism.ipynb](../exercises/06_pipeline_parallelism.ipynb).
#
# **Read on.** Huang et al., [GPipe](https://arxiv.org/abs/1811.06965), section 2, for micro-batches and
# recomputing. Narayanan et al., [PipeDream-2BW](https://arxiv.org/abs/2006.09503), for PipeDream and its
# flush, and [Megatron-LM](https://arxiv.org/abs/2104.04473), section 2.2, for 1F1B and interleaving,
# section 3.4 for the size of a micro-batch. Qi et al.,
# [Zero Bubble Pipeline Parallelism](https://arxiv.org/abs/2401.10241), for I and W (there B and W), H1,
# H2 and V.
